package openapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/control"
	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
)

// The control tokens of the daemon. The first has all scopes, the second may only
// publish.
const (
	tokenAll     = "operations"
	tokenPublish = "shop"
)

// call is a request and the expected status.
type call struct {
	operation    string // its id, without the service's name
	method, path string
	body         string
	token        string // tokenAll if empty
	contentType  string // application/json if empty
	status       int
}

// TestOperations calls every operation of the daemon's OpenAPI document and
// validates requests and responses against the document.
func TestOperations(t *testing.T) {
	t.Parallel()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Control.Tokens = []daemon.Token{
			{Name: "operations", Token: tokenAll},
			{Name: "shop", Token: tokenPublish, Scopes: []string{control.ScopePublish}},
		}
		cfg.Topics = []daemon.TopicPolicy{{Pattern: "orders.>", History: daemon.TopicHistory{MaxEvents: new(9), MaxAge: new(time.Hour)}, SlowConsumer: "conflate", Anonymous: new(false)}}
		cfg.Hooks = []daemon.Hook{{URL: "http://127.0.0.1:1/hooks?key=hidden", Secret: "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}} // nothing listens there
	})
	doc := parse(t, served(t, d))

	calls := slices.Concat(successes(), failures())
	for _, c := range successes() {
		calls = append(calls, rejections(c)...)
	}

	// Drain shuts the daemon down, so it must be the last call.
	drain := call{operation: "Drain", method: http.MethodPost, path: "/v1/drain", body: `{}`, status: http.StatusOK}
	calls = append(append(calls, rejections(drain)...), drain)
	called := make(map[string]map[bool]bool) // by operation, and by whether the call succeeds

	for _, c := range calls {
		doc.try(t, d.URL(""), c)
		record(called, c)
	}

	d.WaitForEnd(t)

	for _, state := range failureStates() {
		doc.try(t, state.start(t), state.call)
		record(called, state.call)
	}

	for _, id := range doc.ids() {
		name := strings.TrimPrefix(id, servicePrefix)
		if !called[name][true] || !called[name][false] {
			t.Errorf("operation %s must be called with success and with an error", name)
		}
	}
}

// record records in called whether c succeeds.
func record(called map[string]map[bool]bool, c call) {
	if called[c.operation] == nil {
		called[c.operation] = make(map[bool]bool)
	}

	called[c.operation][c.status == http.StatusOK] = true
}

// successes returns calls that succeed, at least one for each operation except
// Drain and RemoveNode.
func successes() []call {
	const ok = http.StatusOK

	return []call{
		{"Broadcast", "POST", "/v1/broadcast", `{"data":"hi","event":"news","ttl":"1.5s","conflateKey":"k","idempotencyKey":"1"}`, "", "", ok},
		{"Broadcast", "POST", "/v1/broadcast", `{"data":"hi"}`, tokenPublish, "", ok},
		{"SendToUser", "POST", "/v1/users/alice/messages", `{"data":"hi","event":"news","ttl":"60s","conflateKey":"k","idempotencyKey":"2"}`, "", "", ok},
		{"SendToUser", "POST", "/v1/users/a%2Fb:c%20%C3%BC/messages", `{"data":"hi"}`, "", "", ok},
		{"Publish", "POST", "/v1/topics/orders.7/messages", `{"data":"hi","event":"news","ttl":"60s","conflateKey":"k","idempotencyKey":"3"}`, "", "", ok},
		{"Publish", "POST", "/v1/topics/orders.8/messages", `{"data":"hi","retain":true,"final":true}`, "", "", ok},
		{"Publish", "POST", "/v1/topics/orders.9/messages", `{"data":"hi","topics":["orders.10"],"excludeUserId":"alice"}`, "", "", ok},
		{"PublishMessage", "POST", "/v1/messages", `{"data":"hi","topic":"orders.7","topics":["orders.10"],"excludeUserId":"alice","event":"news","ttl":"60s"}`, tokenPublish, "", ok},
		{"PublishMessage", "POST", "/v1/messages", `{"data":"hi","everyone":true,"conflateKey":"k","idempotencyKey":"4"}`, "", "", ok},
		{"PublishMessage", "POST", "/v1/messages", `{"data":"hi","userId":"alice"}`, "", "", ok},
		{"PublishBatch", "POST", "/v1/messages:batch", `{"messages":[{"data":"hi","everyone":true},{"data":"hi","topics":["a","b"]},{"data":"hi"}]}`, tokenPublish, "", ok},
		{"SendToUser", "POST", "/v1/users/alice/messages", `{"data":"hi","retain":true}`, "", "", ok},
		{"Broadcast", "POST", "/v1/broadcast", `{"data":"hi","retain":true}`, "", "", ok},
		{"PublishCloudEvents", "POST", "/v1/cloudevents?deliver=event&ttl=60s", `{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"a"}`, "", "application/cloudevents+json", ok},
		{"PublishCloudEvents", "POST", "/v1/cloudevents?topics=a&topics=b", `[{"specversion":"1.0","id":"2","source":"/s","type":"t","data":1},{}]`, tokenPublish, "application/cloudevents-batch+json", ok},
		{"ClearRetained", "DELETE", "/v1/topics/orders.8/retained", "", "", "", ok},
		{"ClearRetained2", "DELETE", "/v1/users/alice/retained?conflateKey=k", "", tokenPublish, "", ok},
		{"ClearRetained3", "DELETE", "/v1/broadcast/retained?conflateKey=", "", "", "", ok},
		{"ListRetained", "GET", "/v1/retained?topic=orders.%3E&pageSize=1", "", "", "", ok},
		{"ListRetained", "GET", "/v1/retained", "", "", "", ok},
		{"ClearRetained4", "DELETE", "/v1/retained?all=true", "", tokenPublish, "", ok},
		{"ListUsers", "GET", "/v1/users", "", "", "", ok},
		{"ListUsers", "GET", "/v1/users?prefix=a&pageSize=1", "", "", "", ok},
		{"ListTopics", "GET", "/v1/topics", "", "", "", ok},
		{"ListTopics", "GET", "/v1/topics?prefix=o&pageSize=1", "", "", "", ok},
		{"ListSubscribers", "GET", "/v1/topics/orders.7/subscribers", "", "", "", ok},
		{"ListSubscribers", "GET", "/v1/topics/orders.%3E/subscribers?prefix=a&pageSize=1", "", "", "", ok},
		{"ExplainTopic", "GET", "/v1/topics/orders.7/policy", "", "", "", ok},
		{"ExplainTopic", "GET", "/v1/topics/news/policy", "", "", "", ok},
		{"Disconnect", "POST", "/v1/users/nobody:disconnect", `{"for":"60s"}`, "", "", ok},
		{"Disconnect", "POST", "/v1/users/a:b%2Fc:disconnect", `{}`, "", "", ok},
		{"Stats", "GET", "/v1/stats", "", "", "", ok},
		{"GetPosition", "GET", "/v1/position", "", "", "", ok},
		{"ListMessages", "GET", "/v1/topics/orders.7/messages?order=newest&pageSize=1", "", "", "", ok},
		{"ListMessages2", "GET", "/v1/users/alice/messages?retained=true", "", "", "", ok},
		{"ListMessages3", "GET", "/v1/broadcast", "", "", "", ok},
		{"Tail", "GET", "/v1/tail?topic=orders.%3E", "", "", "", ok},
		{"CreateToken", "POST", "/v1/tokens", `{"userId":"alice","topics":["orders.*"],"ttl":"60s"}`, "", "", ok},
		{"ListHooks", "GET", "/v1/hooks", "", "", "", ok},
		{"TestHook", "POST", "/v1/hooks:test", `{}`, "", "", ok},
		{"TestHook", "POST", "/v1/hooks:test", `{"url":"http://127.0.0.1:1/hooks"}`, "", "", ok},
		{"WhoAmI", "GET", "/v1/whoami", "", "", "", ok},
		{"WhoAmI", "GET", "/v1/whoami", "", tokenPublish, "", ok},
	}
}

// failures returns calls with errors that are specific to an operation.
func failures() []call {
	const invalid, forbidden = http.StatusBadRequest, http.StatusForbidden

	return []call{
		{"Broadcast", "POST", "/v1/broadcast", `{"data":""}`, "", "", invalid},
		{"Broadcast", "POST", "/v1/broadcast", `{"data":"other","idempotencyKey":"1"}`, "", "", http.StatusConflict},
		{"Broadcast", "POST", "/v1/broadcast", `{"data":"` + strings.Repeat("x", control.MaxRequest) + `"}`, "", "", http.StatusRequestEntityTooLarge},
		{"SendToUser", "POST", "/v1/users/a%00b/messages", `{"data":"hi"}`, "", "", invalid},
		{"Publish", "POST", "/v1/topics/orders.*/messages", `{"data":"hi","ttl":"-1s"}`, "", "", invalid},
		{"Broadcast", "POST", "/v1/broadcast", `{"data":"x","final":true}`, "", "", invalid},
		{"PublishCloudEvents", "POST", "/v1/cloudevents", `{"specversion":"0.3"}`, "", "application/cloudevents+json", invalid},
		{"PublishMessage", "POST", "/v1/messages", `{"data":"x"}`, "", "", invalid},
		{"PublishMessage", "POST", "/v1/messages", `{"data":"other","everyone":true,"idempotencyKey":"1"}`, "", "", http.StatusConflict},
		{"PublishBatch", "POST", "/v1/messages:batch", `{"messages":[]}`, "", "", invalid},
		{"PublishBatch", "POST", "/v1/messages:batch", `{"messages":{}}`, "", "", invalid},
		{"PublishBatch", "POST", "/v1/messages:batch", `{"messages":["` + strings.Repeat("x", control.MaxRequest) + `"]}`, "", "", http.StatusRequestEntityTooLarge},
		{"ClearRetained", "DELETE", "/v1/topics/orders.*/retained", "", "", "", invalid},
		{"ClearRetained2", "DELETE", "/v1/users/a%00b/retained", "", "", "", invalid},
		{"ClearRetained3", "DELETE", "/v1/broadcast/retained?conflateKey=%0A", "", "", "", invalid},
		{"ClearRetained4", "DELETE", "/v1/retained", "", "", "", invalid},
		{"ListRetained", "GET", "/v1/retained?pageToken=made-up", "", "", "", invalid},
		{"ListRetained", "GET", "/v1/retained", "", tokenPublish, "", forbidden},
		{"ListUsers", "GET", "/v1/users?pageSize=1001", "", "", "", invalid},
		{"ListUsers", "GET", "/v1/users", "", tokenPublish, "", forbidden},
		{"ListTopics", "GET", "/v1/topics?pageToken=made-up", "", "", "", invalid},
		{"ListTopics", "GET", "/v1/topics", "", tokenPublish, "", forbidden},
		{"ListSubscribers", "GET", "/v1/topics/orders.%3E.7/subscribers", "", "", "", invalid},
		{"ListSubscribers", "GET", "/v1/topics/orders.7/subscribers?pageToken=made-up", "", "", "", invalid},
		{"ListSubscribers", "GET", "/v1/topics/orders.7/subscribers", "", tokenPublish, "", forbidden},
		{"ExplainTopic", "GET", "/v1/topics/orders.*/policy", "", "", "", invalid},
		{"ExplainTopic", "GET", "/v1/topics/orders.7/policy", "", tokenPublish, "", forbidden},
		{"Disconnect", "POST", "/v1/users/alice:disconnect", `{"for":"0s"}`, "", "", invalid},
		{"Disconnect", "POST", "/v1/users/alice:disconnect", `{}`, tokenPublish, "", forbidden},
		{"Stats", "GET", "/v1/stats", "", tokenPublish, "", forbidden},
		{"GetPosition", "GET", "/v1/position", "", tokenPublish, "", forbidden},
		{"ListMessages", "GET", "/v1/topics/orders.*/messages", "", "", "", invalid},
		{"ListMessages", "GET", "/v1/topics/orders.7/messages?afterId=x-1", "", "", "", invalid},
		{"ListMessages", "GET", "/v1/topics/orders.7/messages", "", tokenPublish, "", forbidden},
		{"ListMessages2", "GET", "/v1/users/alice/messages?order=random", "", "", "", invalid},
		{"ListMessages2", "GET", "/v1/users/alice/messages", "", tokenPublish, "", forbidden},
		{"ListMessages3", "GET", "/v1/broadcast?pageToken=made-up", "", "", "", invalid},
		{"ListMessages3", "GET", "/v1/broadcast", "", tokenPublish, "", forbidden},
		{"Tail", "GET", "/v1/tail?topic=a&userId=b", "", "", "", invalid},
		{"Tail", "GET", "/v1/tail", "", tokenPublish, "", forbidden},
		{"CreateToken", "POST", "/v1/tokens", `{}`, "", "", invalid},
		{"CreateToken", "POST", "/v1/tokens", `{"userId":"alice"}`, tokenPublish, "", forbidden},
		{"RemoveNode", "POST", "/v1/nodes/b:remove", `{}`, "", "", invalid}, // There is no cluster.
		{"ListHooks", "GET", "/v1/hooks", "", tokenPublish, "", forbidden},
		{"TestHook", "POST", "/v1/hooks:test", `{"url":"http://127.0.0.1:1/other"}`, "", "", http.StatusNotFound},
		{"TestHook", "POST", "/v1/hooks:test", `{}`, tokenPublish, "", forbidden},
		{"Drain", "POST", "/v1/drain", `{}`, tokenPublish, "", forbidden},
	}
}

// rejections returns variants of a call that every operation must reject.
func rejections(c call) []call {
	variant := func(status int, change func(c *call)) call {
		other := c
		other.status = status
		change(&other)

		return other
	}
	path, _, _ := strings.Cut(c.path, "?")

	variants := []call{
		variant(http.StatusUnauthorized, func(c *call) { c.token = "unknown" }),
		variant(http.StatusBadRequest, func(c *call) { c.path = path + "?colour=red" }),
	}

	if c.method == http.MethodPost {
		// An empty batch of events is valid.
		if !strings.HasPrefix(c.body, "[") {
			variants = append(variants, variant(http.StatusBadRequest, func(c *call) { c.body = `[]` }))
		}

		variants = append(variants,
			variant(http.StatusBadRequest, func(c *call) { c.body = `{"colour":"red"}` }),
			variant(http.StatusBadRequest, func(c *call) { c.body = `{"data":` }),
			variant(http.StatusUnsupportedMediaType, func(c *call) { c.contentType = "multipart/form-data; boundary=x" }),
		)
	}

	return variants
}
