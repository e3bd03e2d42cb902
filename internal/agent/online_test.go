package agent

import "testing"

func TestHasRoute(t *testing.T) {
	const header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	for text, want := range map[string]bool{
		"":     false,
		header: false,
		header + "lo\t0000007F\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n":                   false,
		header + "enp0s3\t0002000A\t00000000\t0001\t0\t0\t1024\t00FFFFFF\t0\t0\t0     \n":       true,
		header + "lo\t0000007F\t00000000\t0001\n" + "eth0\t00000000\t0202000A\t0003\t0\t0\t0\n": true,
	} {
		if got := hasRoute(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestHasAddress(t *testing.T) {
	for text, want := range map[string]bool{
		"": false,
		"00000000000000000000000000000001 01 80 10 80       lo\n":                                                        false,
		"fe80000000000000505400fffe123456 02 40 20 80     eth0\n":                                                        false,
		"fec0000000000000505400fffe123456 02 40 40 00     eth0\n":                                                        false, // QEMU's own
		"fe80000000000000505400fffe123456 02 40 20 80     eth0\n20010db8000000000000000000000002 02 40 00 80     eth0\n": true,
		"20010db8": false,
	} {
		if got := hasAddress(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
