package control

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
)

// encodable constrains a type parameter to *M, where *M is a protobuf message.
type encodable[M any] interface {
	*M
	proto.Message
}

// queryOthers calls a method on all other nodes, and passes their responses to add, one
// at a time. missing holds the sorted names of the nodes that returned no valid
// response.
func queryOthers[Resp any, Response encodable[Resp]](ctx context.Context, s *Service, method string, req proto.Message, add func(node string, resp Response)) (missing []string, _ error) {
	if s.cluster == nil {
		return nil, nil
	}

	request, err := proto.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}

	var malformed []string

	missing = s.cluster.Query(ctx, method, request, func(node string, response []byte) {
		resp := Response(new(Resp))
		if err := proto.Unmarshal(response, resp); err != nil {
			s.log.Warn("malformed response from a node", "node", node, "method", method, "error", err)

			malformed = append(malformed, node)

			return
		}

		add(node, resp)
	})

	if len(malformed) > 0 {
		missing = append(missing, malformed...)
		slices.Sort(missing)
	}

	return missing, nil
}
