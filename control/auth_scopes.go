package control

import (
	"strings"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// The scopes of control tokens.
const (
	// ScopePublish allows publishing events.
	ScopePublish = "publish"
	// ScopeRead allows reading users, topics, stats and metrics.
	ScopeRead = "read"
	// ScopeTokens allows signing subscriber tokens.
	ScopeTokens = "tokens"
	// ScopeAdmin allows everything else, such as closing streams and reading
	// published messages. It includes ScopeTokens.
	ScopeAdmin = "admin"

	// scopeNone is the scope of methods that any caller may call.
	scopeNone = ""
)

// Handlers on the REST listener that aren't RPCs have method names too, for
// their scope, the rate limit and the log.
const (
	guardedMetrics = "/peal.v1.ControlService/Metrics" // requires ScopeRead
	guardedDebug   = "/peal.v1.ControlService/Debug"   // requires ScopeAdmin
)

// scopeOf returns the scope that a method of the ControlService requires. Methods
// that aren't listed require ScopeAdmin, so that a new one isn't open by
// mistake.
func scopeOf(method string) string {
	switch method {
	case pealv1.ControlService_Broadcast_FullMethodName,
		pealv1.ControlService_SendToUser_FullMethodName,
		pealv1.ControlService_Publish_FullMethodName,
		pealv1.ControlService_PublishStream_FullMethodName:
		return ScopePublish
	case pealv1.ControlService_ListUsers_FullMethodName,
		pealv1.ControlService_ListTopics_FullMethodName,
		pealv1.ControlService_WatchConnections_FullMethodName,
		pealv1.ControlService_Stats_FullMethodName,
		guardedMetrics:
		return ScopeRead
	case pealv1.ControlService_CreateToken_FullMethodName:
		return ScopeTokens
	case pealv1.ControlService_WhoAmI_FullMethodName:
		return scopeNone
	}

	return ScopeAdmin
}

// isControlMethod reports whether method is one of the ControlService, and not
// of health or reflection.
func isControlMethod(method string) bool {
	return strings.HasPrefix(method, "/"+pealv1.ControlService_ServiceDesc.ServiceName+"/")
}

// isHealthMethod reports whether method is one of the health service.
func isHealthMethod(method string) bool {
	return strings.HasPrefix(method, "/"+healthv1.Health_ServiceDesc.ServiceName+"/")
}

// shortName returns the name of a method without its service.
func shortName(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }
