// Command player is the first process of an initrd of the tests. It plays an
// installer: it follows /script, a directive a line, on the console and the log of
// a machine. See package peer for the other side, and player.go for the directives.
package main

// main never returns: the kernel panics at the end of its first process. What
// goes wrong here is said on the console, and ends the machine.
func main() {
	p, err := begin()
	if err == nil {
		err = p.play("/script")
	}
	if err != nil && p.console != nil {
		// Nobody is left to hear that the console is gone.
		_ = p.say("player: " + err.Error())
	}
	_ = p.powerOff()
	p.hang()
}
