package rest

import (
	"cmp"
	"context"
	"net/http"
	"strconv"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/cloudevents"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// cloudEventsPath is the path that accepts CloudEvents.
const cloudEventsPath = "/v1/cloudevents"

// batchBytes is the size, in bytes, at which a batch of events is divided into several
// calls, so that none of them exceeds the limit of the gRPC server. A call may be larger
// by one message.
const batchBytes = 2 << 20

// serveCloudEvents publishes the CloudEvents in a request.
func (g *gateway) serveCloudEvents(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
	case http.MethodOptions:
		g.allowWebHook(w, r)
		return
	default:
		g.writeError(w, MethodNotAllowed(w, r, http.MethodPost, http.MethodOptions))
		return
	}

	reply, err := g.publishCloudEvents(w, r)
	if err == nil {
		var body []byte
		if body, err = encode(reply); err == nil {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			// An error means that the client is gone.
			_, _ = w.Write(body)

			return
		}
	}

	g.writeError(w, err)
}

// allowWebHook answers the request with which a sender of webhooks finds out whether it
// may send events here, and how many per minute (HTTP 1.1 Web Hooks for Event Delivery
// 1.0, section 4). It needs no token, but the events do.
func (g *gateway) allowWebHook(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Webhook-Request-Origin") == "" {
		g.writeError(w, apierror.Invalid(apierror.Field{Name: "WebHook-Request-Origin", Problem: "is missing from the header of an OPTIONS request"}))
		return
	}

	header := w.Header()
	header.Set("Allow", http.MethodPost+", "+http.MethodOptions)
	header.Set("Webhook-Allowed-Origin", "*")

	if r.Header.Get("Webhook-Request-Rate") != "" {
		rate := "*"
		if limit := g.rateLimit(); limit > 0 {
			rate = strconv.Itoa(60 * limit)
		}
		header.Set("Webhook-Allowed-Rate", rate)
	}

	w.WriteHeader(http.StatusOK)
}

// publishCloudEvents publishes the events in r, and returns the response's body.
func (g *gateway) publishCloudEvents(w http.ResponseWriter, r *http.Request) (proto.Message, error) {
	mapping, err := newEventMapping(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}

	body := newRequestBody(r)
	if err := body.checkEncodings(w.Header()); err != nil {
		return nil, err
	}

	data, err := body.read()
	if err != nil {
		return nil, err
	}

	request, err := cloudevents.FromHTTP(r.Header, data, MaxBatch)
	if err != nil {
		return nil, err
	}

	ctx, release := callContext(r, false)
	defer release()

	ctx, err = runtime.AnnotateContext(ctx, g.mux, callRequest(r), pealv1.ControlService_PublishBatch_FullMethodName)
	if err != nil {
		return nil, err
	}

	var reply proto.Message
	if request.Batch {
		reply, err = g.publishBatch(ctx, mapping, request.Events)
	} else {
		reply, err = g.publishOne(ctx, mapping, request.Events[0])
	}

	if err != nil {
		return nil, inProcessError(r.Context(), err)
	}

	return reply, nil
}

// publishOne publishes the event of a request that isn't a batch.
func (g *gateway) publishOne(ctx context.Context, mapping *eventMapping, read cloudevents.Read) (proto.Message, error) {
	m, err := mapping.message(read)
	if err != nil {
		return nil, err
	}

	reply, err := g.client.PublishMessage(ctx, m.request)
	if err != nil {
		return nil, m.renameIn(err)
	}

	return reply, nil
}

// publishBatch publishes the events of a batch, and returns their results in order. An
// event that can't be mapped is passed on as an empty message, which the call rejects,
// so that callers are authorized and rejections are counted as in any other batch.
//
// If events can't be published for the time being, the whole batch fails, because senders
// of webhooks repeat a request only if its status is an error. Their keys keep the other
// events from being published again.
func (g *gateway) publishBatch(ctx context.Context, mapping *eventMapping, events []cloudevents.Read) (proto.Message, error) {
	reply := &pealv1.PublishBatchResponse{}

	// There is nothing to publish, but the caller must have a token.
	if len(events) == 0 {
		_, err := g.client.WhoAmI(ctx, &pealv1.WhoAmIRequest{})
		return reply, err
	}

	for len(events) > 0 {
		call, size := &pealv1.PublishBatchRequest{}, 0

		var messages []*eventMessage

		rejected := make(BatchError)

		for len(events) > 0 && size < batchBytes {
			m, err := mapping.message(events[0])
			if err != nil {
				rejected[len(messages)] = cmp.Or(apierror.From(err), apierror.Internal())
				m = &eventMessage{request: &pealv1.PublishMessageRequest{}}
			}

			events = events[1:]
			messages = append(messages, m)
			call.Messages = append(call.GetMessages(), m.request)
			size += proto.Size(m.request)
		}

		batch, err := g.client.PublishBatch(ctx, call)
		if err != nil {
			return nil, err
		}

		for i, result := range batch.GetResults() {
			problem := result.GetError()
			if problem != nil && problem.GetCode() == int32(codes.Unavailable) {
				return nil, apierror.New(codes.Unavailable, problem.GetReason(), problem.GetMessage()+"; send the batch again")
			}

			messages[i].rename(problem)
		}

		rejected.Replace(batch)

		reply.Results = append(reply.GetResults(), batch.GetResults()...)
	}

	return reply, nil
}
