package ramdisk

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herdbook/internal/peer"
	"herdbook/internal/ramroot"
	"herdbook/internal/target"
	"herdbook/internal/target/ramdisk/ramdisktest"
)

// authority makes a CA, and a certificate by it of a server that guests of QEMU find at 10.0.2.2.
func authority(t *testing.T) (root []byte, server tls.Certificate) {
	t.Helper()
	issue := func(c, by *x509.Certificate, signer ed25519.PrivateKey) ([]byte, ed25519.PrivateKey) {
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		public, secret, err := ed25519.GenerateKey(rand.Reader)
		peer.Must(t, err)
		if signer == nil {
			signer = secret
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, public, signer)
		peer.Must(t, err)
		return der, secret
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, signer := issue(ca, ca, nil)
	der, secret := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{{10, 0, 2, 2}}}, ca, signer)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: secret}
}

// trusting is the tree of a system that trusts a CA.
func trusting(t *testing.T, root []byte) string {
	t.Helper()
	dir := tree(t)
	peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, certificates[0])), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(dir, certificates[0]), root, 0o644))
	return dir
}

// TestVMTargetRAMDiskHTTPS fetches the root from a server that the image trusts, and not
// from one that it does not.
func TestVMTargetRAMDiskHTTPS(t *testing.T) {
	needInit(t)
	root, certificate := authority(t)
	_, stranger := authority(t)
	var where string
	serve := func(c tls.Certificate) string {
		files := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.FileServer(http.Dir(where)).ServeHTTP(w, r) })
		server := httptest.NewUnstartedServer(files)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
		server.StartTLS()
		t.Cleanup(server.Close)
		return strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
	}
	trusted, other := serve(certificate), serve(stranger)
	order, _ := export(t, ramdisktest.Image(t, trusting(t, root)), exporter(func(r *target.RAMDisk) { r.URL = trusted }))
	where = order.Dir
	card := []string{"-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="}
	t.Run("trusted", func(t *testing.T) {
		ramdisktest.IsUp(t, ramdisktest.Boot(t, append(outright(order), card...)...), "overlay / overlay rw")
	})
	t.Run("not trusted", func(t *testing.T) {
		out := ramdisktest.Boot(t, append(outright(order, ramroot.URLArgument+"="+other+"/small.squashfs"), card...)...)
		for _, want := range []string{ramroot.Complaint, "certificate signed by unknown authority", "add the server's CA to the image", "Kernel panic"} {
			if !strings.Contains(out, want) {
				t.Errorf("nothing of %q", want)
			}
		}
		if strings.Contains(out, "try 1 of") || t.Failed() {
			t.Errorf("%s", out)
		}
	})
}
