package control

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Cluster provides access to the other nodes of a cluster. Its methods must be
// safe for concurrent use.
type Cluster interface {
	// Name returns the name of this node.
	Name() string
	// Nodes returns all nodes in order of name, including this one.
	Nodes() []*pealv1.Node
	// Query calls [Service.HandleQuery] on all other nodes, and passes their
	// responses to receive, one at a time. It returns the names of the nodes
	// that haven't responded in time.
	Query(ctx context.Context, method string, request []byte, receive func(node string, response []byte)) (missing []string)
	// Watch runs [Service.HandleWatch] on all other nodes, including those that
	// join later, until ctx is done. It calls started first, with the names of
	// the nodes that are reachable.
	Watch(ctx context.Context, method string, request []byte, receiver Receiver, started func(nodes []string))
}

// Receiver receives the responses of a watch. Its methods are called one at a
// time.
type Receiver = interface {
	// Receive is called with the next responses of a node, in order.
	Receive(node string, responses [][]byte)
	// Restart is called when responses of a node were lost, and the node is
	// about to start over.
	Restart(node string)
	// End is called when a node will send no more responses.
	End(node string)
}

// HandleQuery handles a call of another node of the cluster. The response covers
// this node only.
func (s *Service) HandleQuery(_ context.Context, method string, request []byte) ([]byte, error) {
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

// HandleWatch handles a call of another node of the cluster that keeps responding.
// The responses cover this node only.
func (s *Service) HandleWatch(ctx context.Context, method string, _ []byte, send func(response []byte) error) error {
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
	missing = s.cluster.Query(ctx, method, request, func(node string, response []byte) {
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
