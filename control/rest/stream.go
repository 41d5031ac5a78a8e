package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/peald/peald/control/apierror"
)

// streamError returns the status that the gateway writes at the end of a stream that
// has failed with err.
func streamError(ctx context.Context, err error) *status.Status {
	st, _ := apierror.Status(inProcessError(ctx, err))
	return st
}

// responseWriter is the http.ResponseWriter for a call. If a stream fails before its
// first message, the gateway writes the error in a format of its own. A responseWriter
// captures that error, so that it can be written like an error from any other call.
type responseWriter struct {
	http.ResponseWriter

	captured *bytes.Buffer // the gateway's error; nil if there is none
}

// Unwrap returns the underlying writer, for use by [http.ResponseController].
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. The gateway calls it only for
// the error from a stream that failed before its first message.
func (w *responseWriter) WriteHeader(int) { w.captured = new(bytes.Buffer) }

// Write implements [http.ResponseWriter].
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.captured != nil {
		return w.captured.Write(p)
	}

	return w.ResponseWriter.Write(p)
}

// err returns the captured error, or nil.
func (w *responseWriter) err() error {
	if w.captured == nil {
		return nil
	}

	var body struct {
		Error json.RawMessage `json:"error"`
	}

	st := new(rpcstatus.Status)
	if json.Unmarshal(w.captured.Bytes(), &body) != nil || protojson.Unmarshal(body.Error, st) != nil {
		return apierror.Internal()
	}

	return status.ErrorProto(st)
}
