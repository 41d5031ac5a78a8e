package control

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Cluster is what the control plane needs of the other daemons of a cluster.
// Its methods may be called at the same time.
type Cluster interface {
	// Name is what the cluster knows this daemon by.
	Name() string
	// Nodes are all daemons, this one among them, in order of name.
	Nodes() []*pealv1.Node
	// Ask has all others answer a call, by [Service.Answer], and hands their
	// responses to hear one at a time. It returns who has not answered in time.
	Ask(ctx context.Context, method string, request []byte, hear func(node string, response []byte)) (missing []string)
	// Follow has all others go on answering a call, by [Service.Tell], until
	// ctx ends, and those that come later too. Begun is called first, with the
	// names of those who are there.
	Follow(ctx context.Context, method string, request []byte, hearing Hearing, begun func(nodes []string))
}

// Hearing hears what others tell. Its methods are called one at a time.
type Hearing = interface {
	// Hear is called with the next responses of a daemon.
	Hear(node string, responses [][]byte)
	// Again is called when a daemon is about to tell from the beginning.
	Again(node string)
	// Gone is called when a daemon tells no more.
	Gone(node string)
}

// Answer answers a call for another daemon of the cluster, from what this one
// holds alone.
func (s *Service) Answer(_ context.Context, method string, request []byte) ([]byte, error) {
	switch method {
	case pealv1.ControlService_ListUsers_FullMethodName:
		return answerTo(request, s.ownUsers)
	case pealv1.ControlService_ListTopics_FullMethodName:
		return answerTo(request, s.ownTopics)
	case pealv1.ControlService_Disconnect_FullMethodName:
		return answerTo(request, s.disconnectOwn)
	case pealv1.ControlService_Stats_FullMethodName:
		return answerTo(request, func(*pealv1.StatsRequest) (*pealv1.StatsResponse, error) { return s.ownStats(), nil })
	}
	return nil, fmt.Errorf("%q is no call that is answered for others", method)
}

// Tell goes on answering a call for another daemon of the cluster, from what
// this one holds alone.
func (s *Service) Tell(ctx context.Context, method string, _ []byte, send func(response []byte) error) error {
	if method != pealv1.ControlService_WatchConnections_FullMethodName {
		return fmt.Errorf("%q is no call that is answered for others", method)
	}
	return s.watchOwn(ctx, func(told *pealv1.WatchConnectionsResponse) error {
		response, err := proto.Marshal(told)
		if err != nil {
			return fmt.Errorf("encoding a response: %w", err)
		}
		return send(response)
	})
}

// encodable is *M as a protobuf message.
type encodable[M any] interface {
	*M
	proto.Message
}

func answerTo[Req, Resp any, Request encodable[Req], Response encodable[Resp]](request []byte, call func(Request) (Response, error)) ([]byte, error) {
	req := Request(new(Req))
	if err := proto.Unmarshal(request, req); err != nil {
		return nil, fmt.Errorf("decoding a request: %w", err)
	}
	resp, err := call(req)
	if err != nil {
		return nil, err
	}
	response, err := proto.Marshal(resp)
	if err != nil {
		return nil, fmt.Errorf("encoding a response: %w", err)
	}
	return response, nil
}

// askOthers hands the responses of all other daemons to add. Missing are those
// that there is none of.
func askOthers[Resp any, Response encodable[Resp]](ctx context.Context, s *Service, method string, req proto.Message, add func(node string, resp Response)) (missing []string, _ error) {
	if s.cluster == nil {
		return nil, nil
	}
	request, err := proto.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	var unread []string
	missing = s.cluster.Ask(ctx, method, request, func(node string, response []byte) {
		resp := Response(new(Resp))
		if err := proto.Unmarshal(response, resp); err != nil {
			s.log.Warn("a node's answer can't be read", "node", node, "method", method, "error", err)
			unread = append(unread, node)
			return
		}
		add(node, resp)
	})
	if len(unread) > 0 {
		missing = append(missing, unread...)
		slices.Sort(missing)
	}
	return missing, nil
}
