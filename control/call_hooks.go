package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Hooks sends webhooks. Its methods must be safe for concurrent use.
type Hooks interface {
	// Status returns the status of each webhook on this node.
	Status() []Hook
	// Test sends one test message to the receiver at url, or to the only receiver if url
	// is empty. It reports whether there is such a receiver.
	Test(ctx context.Context, url string) (result HookTest, ok bool)
}

// HookState is the state of a webhook on a node.
type HookState int

// The states, which pealv1.HookState describes.
const (
	HookStandby HookState = iota
	HookStarting
	HookSending
	HookFailing
)

// Hook is the status of a webhook on a node. Its fields are those of pealv1.Hook.
type Hook struct {
	URL         string
	Events      []string
	Delay       time.Duration
	State       HookState
	Pending     int
	Sent        int64
	Snapshots   int64
	Dropped     int64
	Failed      int64
	LastError   string
	LastFailure time.Time // zero if there was none
	LastSuccess time.Time // zero if there was none
}

// HookTest is the result of a test message. Its fields are those of
// pealv1.TestHookResponse. Err is nil if the receiver accepted the message.
type HookTest struct {
	URL, MessageID string
	Status         int
	Body           string
	Duration       time.Duration
	Err            error
}

// maxHookURL is the maximum length of a URL in a TestHookRequest, in bytes.
const maxHookURL = 4096

// ListHooks implements pealv1.ControlServiceServer.
func (s *Service) ListHooks(ctx context.Context, req *pealv1.ListHooksRequest) (*pealv1.ListHooksResponse, error) {
	resp := s.localHooks()
	rows := resp.GetHooks()

	var err error

	resp.MissingNodes, err = queryOthers(ctx, s, pealv1.ControlService_ListHooks_FullMethodName, req,
		func(_ string, other *pealv1.ListHooksResponse) { rows = append(rows, other.GetHooks()...) })
	if err != nil {
		return nil, fmt.Errorf("listing hooks: %w", err)
	}

	// Of each webhook, keep the entry of the node that sends it.
	slices.SortStableFunc(rows, func(a, b *pealv1.Hook) int {
		return cmp.Or(cmp.Compare(a.GetUrl(), b.GetUrl()), cmp.Compare(rankOf(a), rankOf(b)))
	})
	resp.Hooks = slices.CompactFunc(rows, func(a, b *pealv1.Hook) bool { return a.GetUrl() == b.GetUrl() })

	return resp, nil
}

// rankOf returns a lower number for a more informative entry.
func rankOf(h *pealv1.Hook) int {
	switch h.GetState() {
	case pealv1.HookState_HOOK_STATE_FAILING, pealv1.HookState_HOOK_STATE_SENDING:
		return 0
	case pealv1.HookState_HOOK_STATE_STANDBY:
		return 1
	default:
		return 2
	}
}

// localHooks is like ListHooks, but describes the webhooks on this node.
func (s *Service) localHooks() *pealv1.ListHooksResponse {
	resp := &pealv1.ListHooksResponse{}
	if s.hooks == nil {
		return resp
	}

	for _, h := range s.hooks.Status() {
		row := &pealv1.Hook{
			Url:            h.URL,
			Events:         h.Events,
			Delay:          durationpb.New(h.Delay),
			State:          h.State.message(),
			Node:           s.nodeName(),
			Pending:        int64(h.Pending),
			EventsSent:     h.Sent,
			SnapshotsSent:  h.Snapshots,
			EventsDropped:  h.Dropped,
			FailedRequests: h.Failed,
			LastError:      h.LastError,
		}
		if !h.LastFailure.IsZero() {
			row.LastFailureValue = &pealv1.Hook_LastFailure{LastFailure: timestamppb.New(h.LastFailure)}
		}

		if !h.LastSuccess.IsZero() {
			row.LastSuccessValue = &pealv1.Hook_LastSuccess{LastSuccess: timestamppb.New(h.LastSuccess)}
		}

		resp.Hooks = append(resp.Hooks, row)
	}

	return resp
}

func (h HookState) message() pealv1.HookState {
	switch h {
	case HookSending:
		return pealv1.HookState_HOOK_STATE_SENDING
	case HookFailing:
		return pealv1.HookState_HOOK_STATE_FAILING
	case HookStarting:
		return pealv1.HookState_HOOK_STATE_STARTING
	case HookStandby:
		return pealv1.HookState_HOOK_STATE_STANDBY
	default:
		return pealv1.HookState_HOOK_STATE_UNSPECIFIED
	}
}

// nodeName returns the name of this node, or an empty string if clustering is disabled.
func (s *Service) nodeName() string {
	if s.cluster == nil {
		return ""
	}

	return s.cluster.Name()
}

// TestHook implements pealv1.ControlServiceServer.
func (s *Service) TestHook(ctx context.Context, req *pealv1.TestHookRequest) (*pealv1.TestHookResponse, error) {
	if n := len(req.GetUrl()); n > maxHookURL {
		return nil, apierror.Invalid(apierror.Field{Name: "url", Problem: fmt.Sprintf("is %d bytes long; want at most %d", n, maxHookURL)})
	}

	result, ok := HookTest{}, false
	if s.hooks != nil {
		result, ok = s.hooks.Test(ctx, req.GetUrl())
	}

	if !ok {
		return nil, s.unknownHook(req.GetUrl())
	}

	resp := &pealv1.TestHookResponse{
		Url:       result.URL,
		MessageId: result.MessageID,
		Accepted:  result.Err == nil,
		Status:    toInt32(result.Status),
		Body:      result.Body,
		Duration:  durationpb.New(result.Duration),
		Node:      s.nodeName(),
	}
	if result.Err != nil {
		resp.Error = result.Err.Error()
	}

	return resp, nil
}

// unknownHook returns the error for a URL that belongs to no webhook. It names the URLs
// that do.
func (s *Service) unknownHook(url string) error {
	var known []string

	if s.hooks != nil {
		for _, h := range s.hooks.Status() {
			known = append(known, h.URL)
		}
	}

	switch {
	case len(known) == 0:
		return apierror.New(codes.NotFound, apierror.ReasonUnknownHook, "no webhooks are configured; set hooks")
	case url == "":
		return apierror.Invalid(apierror.Field{Name: "url", Problem: "is empty; want one of " + strings.Join(known, ", ")})
	default:
		return apierror.New(codes.NotFound, apierror.ReasonUnknownHook,
			fmt.Sprintf("no webhook with the URL %s; want one of %s", strconv.Quote(url), strings.Join(known, ", ")))
	}
}
