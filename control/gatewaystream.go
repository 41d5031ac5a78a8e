package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// streamFailed is what the gateway is to say of a stream that ends with err.
func streamFailed(ctx context.Context, err error) *status.Status {
	st, _ := statusOf(insideError(ctx, err))
	return st
}

// answer is a call's. It keeps back what the gateway makes of a stream that
// fails before its first message, which has a form of its own: it is to be
// answered as any call that fails.
type answer struct {
	http.ResponseWriter

	refused *bytes.Buffer // what the gateway says of such a failure
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. The gateway calls it for such a
// failure and for nothing else.
func (a *answer) WriteHeader(int) { a.refused = new(bytes.Buffer) }

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	if a.refused != nil {
		return a.refused.Write(p)
	}
	return a.ResponseWriter.Write(p)
}

// failure is the error of a stream that failed before its first message, or
// nil.
func (a *answer) failure() error {
	if a.refused == nil {
		return nil
	}
	var said struct {
		Error json.RawMessage `json:"error"`
	}
	st := new(rpcstatus.Status)
	if json.Unmarshal(a.refused.Bytes(), &said) != nil || protojson.Unmarshal(said.Error, st) != nil {
		return internalError()
	}
	return status.ErrorProto(st)
}
