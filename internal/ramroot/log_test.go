package ramroot

import "testing"

func TestLackOfFirmware(t *testing.T) {
	for _, c := range []struct {
		log  []string
		want string
	}{
		{nil, ""},
		{[]string{"6,1,2,-;e100 0000:00:01.0: firmware: direct-loading firmware e100/d102e_ucode.bin\n"}, ""},
		{[]string{
			"4,3,4,-;tg3 0000:01:00.0: firmware: failed to load tigon/tg3.bin (-2)\n SUBSYSTEM=pci\n",
			"4,4,5,-;tg3 0000:01:00.0: Direct firmware load for tigon/tg3.bin failed with error -2\n",
			"4,5,6,-;bnx2 0000:02:00.0: Direct firmware load for bnx2/bnx2-mips-09-6.2.1b.fw failed with error -2\n",
		}, "; drivers did not find the firmware bnx2/bnx2-mips-09-6.2.1b.fw, tigon/tg3.bin: add the package that has it to the image"},
	} {
		if got := lackOfFirmware(c.log); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
