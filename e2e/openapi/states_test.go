package openapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
)

// failureState is a call to a control plane that is in a certain state.
type failureState struct {
	config  control.Config
	publish error // returned by the broker
	call    call
}

// failureStates returns calls whose results depend on the state of the control
// plane.
func failureStates() []failureState {
	node := call{operation: "RemoveNode", method: http.MethodPost, path: "/v1/nodes/b:remove", body: `{}`}
	event := call{operation: "Broadcast", method: http.MethodPost, path: "/v1/broadcast", body: `{"data":"hi"}`}
	tokens := []control.Token{{Name: "operations", Token: tokenAll}}

	with := func(c call, status int) call {
		c.status = status

		return c
	}

	return []failureState{
		{control.Config{Membership: members{left: []string{"a", "c"}}}, nil, with(node, http.StatusOK)},
		{control.Config{Membership: members{err: &control.MembershipError{Unknown: true, Reason: "unknown"}}}, nil, with(node, http.StatusNotFound)},
		{control.Config{Membership: members{err: &control.MembershipError{Reason: "running"}}}, nil, with(node, http.StatusBadRequest)},
		{control.Config{Tokens: tokens}, broker.ErrClosed, with(event, http.StatusServiceUnavailable)},
		{control.Config{Tokens: tokens}, &broker.UnavailableError{Reason: "no quorum"}, with(event, http.StatusServiceUnavailable)},
		{control.Config{Tokens: tokens}, context.DeadlineExceeded, with(event, http.StatusGatewayTimeout)},
		{control.Config{Tokens: tokens}, http.ErrAbortHandler, with(event, http.StatusInternalServerError)},
		{control.Config{}, nil, call{
			operation: "CreateToken", method: http.MethodPost, path: "/v1/tokens", body: `{"userId":"alice"}`, status: http.StatusBadRequest,
		}},
	}
}

// start starts the control plane and returns the URL of its REST API.
func (s failureState) start(t *testing.T) string {
	t.Helper()

	service := control.New(s.config, publisher{err: s.publish}, nil)
	t.Cleanup(service.Close)

	rest, err := service.RESTHandler()
	if err != nil {
		t.Fatal(err)
	}

	server := httptest.NewServer(rest)
	t.Cleanup(server.Close)
	service.SetServing(true)

	return server.URL
}

// publisher is a broker whose Publish fails with err. It has no other methods.
type publisher struct {
	control.Broker

	err error
}

func (p publisher) Publish(context.Context, broker.Message) (broker.Receipt, error) {
	return broker.Receipt{}, p.err
}

// members is a cluster membership whose Remove always returns the same result.
type members struct {
	left []string
	err  error
}

func (m members) Remove(context.Context, string) ([]string, error) { return m.left, m.err }
