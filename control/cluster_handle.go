package control

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// HandleQuery handles a unary call from another node in the cluster. The response
// covers only this node.
func (s *Service) HandleQuery(_ context.Context, method string, request []byte) ([]byte, error) {
	switch method {
	case pealv1.ControlService_ListUsers_FullMethodName:
		return respond(request, s.localUsers)
	case pealv1.ControlService_ListTopics_FullMethodName:
		return respond(request, s.localTopics)
	case pealv1.ControlService_Disconnect_FullMethodName:
		return respond(request, s.localDisconnect)
	case pealv1.ControlService_Stats_FullMethodName:
		return respond(request, func(*pealv1.StatsRequest) (*pealv1.StatsResponse, error) { return s.localStats(), nil })
	case pealv1.ControlService_ListHooks_FullMethodName:
		return respond(request, func(*pealv1.ListHooksRequest) (*pealv1.ListHooksResponse, error) { return s.localHooks(), nil })
	}

	return nil, fmt.Errorf("method %q can't be queried from another node", method)
}

// HandleWatch handles a streaming call from another node in the cluster, and sends
// responses until the call ends. The responses cover only this node.
func (s *Service) HandleWatch(ctx context.Context, method string, _ []byte, send func(response []byte) error) error {
	if method != pealv1.ControlService_WatchConnections_FullMethodName {
		return fmt.Errorf("method %q can't be watched from another node", method)
	}

	return s.watchLocal(ctx, func(resp *pealv1.WatchConnectionsResponse) error {
		response, err := proto.Marshal(resp)
		if err != nil {
			return fmt.Errorf("encoding a response: %w", err)
		}

		return send(response)
	})
}

// respond decodes a request, passes it to call, and returns the encoded response.
func respond[Req, Resp any, Request encodable[Req], Response encodable[Resp]](request []byte, call func(Request) (Response, error)) ([]byte, error) {
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
