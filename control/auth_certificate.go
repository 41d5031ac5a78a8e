package control

import (
	"context"
	"crypto/x509"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// certifiedName returns the name in the caller's client certificate, or "" if there is
// none. TLS has already verified the certificate.
func certifiedName(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}

	info, ok := p.AuthInfo.(credentials.TLSInfo)
	// VerifiedChains is empty unless client certificates are verified and the caller
	// sent one.
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return ""
	}

	return subjectName(info.State.VerifiedChains[0][0])
}

// commonName is the object identifier of the common name (RFC 5280 appendix A.1).
const commonName = "2.5.4.3"

// subjectName returns the name of a certificate's subject, or "" if it has none or
// several common names, of which programs choose different ones. It is valid UTF-8:
// crypto/x509 rejects certificates with malformed names, and converts names in other
// encodings.
func subjectName(c *x509.Certificate) string {
	names := 0
	for _, attribute := range c.Subject.Names {
		if attribute.Type.String() == commonName {
			names++
		}
	}

	switch {
	case names > 1:
		return ""
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.URIs) > 0:
		return c.URIs[0].String()
	}

	return ""
}
