package control_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// FuzzDecode checks that a request that isn't a valid message is rejected with
// INVALID_ARGUMENT.
func FuzzDecode(f *testing.F) {
	f.Add(field(1, "alice"))
	f.Add(append(field(1, "\xff"), field(2, "\x08\x01")...))
	p := start(f, control.Config{}, &fake{}, stubMinter{})
	f.Fuzz(func(t *testing.T, request []byte) {
		err := p.conn.Invoke(t.Context(), pealv1.ControlService_CreateToken_FullMethodName, request,
			&pealv1.CreateTokenResponse{}, grpc.ForceCodecV2(rawCodec{}))
		if err != nil && status.Code(err) != codes.InvalidArgument {
			t.Error(err)
		}
	})
}
