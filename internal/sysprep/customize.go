package sysprep

// customize changes nothing. virt-sysprep carries out virt-customize's options here;
// for herdbook those are steps before sysprep. The name stays, so that lists of
// operations mean what they meant.
func customize(*task) error { return nil }
