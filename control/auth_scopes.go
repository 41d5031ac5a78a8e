package control

import (
	"fmt"
	"strings"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// The scopes of control tokens. Each method in the proto declares the scope it requires
// in its scope option.
const (
	// ScopePublish allows publishing events.
	ScopePublish = "publish"
	// ScopeRead allows reading users, topics, stats and metrics.
	ScopeRead = "read"
	// ScopeData allows reading messages, including their data, from the history.
	ScopeData = "data"
	// ScopeTokens allows signing subscriber tokens.
	ScopeTokens = "tokens"
	// ScopeAdmin allows everything else, such as closing streams and following
	// messages as they are published. It includes ScopeTokens.
	ScopeAdmin = "admin"

	// scopeNone is the scope of methods that any caller may call.
	scopeNone = "none"
)

// Method names for handlers on the REST listener that aren't RPCs. The scopes, the rate
// limit and the log use these names.
const (
	guardedMetrics = "/peal.v1.ControlService/Metrics" // requires ScopeRead
	guardedDebug   = "/peal.v1.ControlService/Debug"   // requires ScopeAdmin
)

// scopes maps the full names of methods to the scopes they require. It is immutable.
type scopes map[string]string

// newScopes returns the scopes from the method options in the proto.
func newScopes() scopes {
	s := scopes{guardedMetrics: ScopeRead}
	service := pealv1.File_peal_v1_control_proto.Services().ByName("ControlService")

	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		if scope, ok := proto.GetExtension(method.Options(), pealv1.E_Scope).(string); ok && scope != "" {
			s[fmt.Sprintf("/%s/%s", service.FullName(), method.Name())] = scope
		}
	}

	return s
}

// of returns the scope that a method requires. Methods without a scope require
// ScopeAdmin, so that a new method isn't open to everyone by mistake.
func (s scopes) of(method string) string {
	if scope, ok := s[method]; ok {
		return scope
	}

	return ScopeAdmin
}

// isControlMethod reports whether method belongs to the ControlService rather than to
// health or reflection.
func isControlMethod(method string) bool {
	return strings.HasPrefix(method, "/"+pealv1.ControlService_ServiceDesc.ServiceName+"/")
}

// isHealthMethod reports whether method belongs to the health service.
func isHealthMethod(method string) bool {
	return strings.HasPrefix(method, "/"+healthv1.Health_ServiceDesc.ServiceName+"/")
}

// shortName returns the name of a method without its service.
func shortName(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }
