package daemon_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// named returns a client certificate that id has signed, with the given common names.
func (id identity) named(t *testing.T, commonNames ...asn1.RawValue) tls.Certificate {
	t.Helper()

	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}

	var subject []asn1.RawValue

	for _, name := range commonNames {
		set, err := asn1.MarshalWithParams([]attribute{{asn1.ObjectIdentifier{2, 5, 4, 3}, name}}, "set")
		if err != nil {
			t.Fatal(err)
		}

		subject = append(subject, asn1.RawValue{FullBytes: set})
	}

	raw, err := asn1.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}

	key, ok := id.pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("the key is a %T", id.pair.PrivateKey)
	}

	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2),
		RawSubject:   raw,
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, id.pair.Leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	// With a leaf, the client sends the certificate without parsing it.
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: id.pair.Leaf}
}

// TestNamesInCertificates calls with client certificates whose names could be confused
// with each other.
func TestNamesInCertificates(t *testing.T) {
	t.Parallel()

	const teletex = 20 // T61String, which contains Latin-1 in practice

	utf8 := func(name string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(name)} }
	id := newIdentity(t)
	d := start(t, func(cfg *daemon.Config) {
		cfg.GRPC.TLS = daemon.MutualTLS{CertFile: id.certFile, KeyFile: id.keyFile, ClientCAFile: id.certFile}
		cfg.Control.Tokens = []daemon.Token{{Name: "reader", Token: "a-token-that-may-read", Scopes: []string{"read"}}}
	})

	for name, test := range map[string]struct {
		names  []asn1.RawValue
		caller string
		want   codes.Code
	}{
		"UTF-8":          {[]asn1.RawValue{utf8("müller")}, "müller", codes.OK},
		"Latin-1":        {[]asn1.RawValue{{Tag: teletex, Bytes: []byte("m\xfcller")}}, "müller", codes.OK},
		"other Latin-1":  {[]asn1.RawValue{{Tag: teletex, Bytes: []byte("m\xf6ller")}}, "möller", codes.OK},
		"UCS-2":          {[]asn1.RawValue{{Tag: asn1.TagBMPString, Bytes: []byte("\x00m\x00\xfc")}}, "mü", codes.OK},
		"surrogate":      {[]asn1.RawValue{{Tag: asn1.TagBMPString, Bytes: []byte("\x00m\xd8\x3d")}}, "", codes.Unavailable},
		"invalid UTF-8":  {[]asn1.RawValue{utf8("m\xfcller")}, "", codes.Unavailable},
		"two names":      {[]asn1.RawValue{utf8("alice"), utf8("bob")}, "", codes.Unauthenticated},
		"one name twice": {[]asn1.RawValue{utf8("alice"), utf8("alice")}, "", codes.Unauthenticated},
		"none":           {nil, "", codes.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
				RootCAs: id.pool, Certificates: []tls.Certificate{id.named(t, test.names...)},
			})))
			if err != nil {
				t.Fatal(err)
			}

			defer func() { _ = conn.Close() }()

			reply, err := pealv1.NewControlServiceClient(conn).WhoAmI(t.Context(), &pealv1.WhoAmIRequest{})
			if status.Code(err) != test.want || reply.GetName() != test.caller {
				t.Errorf("WhoAmI = %q, %v; want %q, %v", reply.GetName(), err, test.caller, test.want)
			}
		})
	}
}
