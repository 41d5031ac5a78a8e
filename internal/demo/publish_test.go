package demo_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
)

func TestPublish(t *testing.T) {
	for name, test := range map[string]struct {
		body     string
		audience broker.Audience
	}{
		"to everyone": {`{"data":"hi"}`, broker.Everyone()},
		"to a user":   {`{"user":"Zoë","data":"hi"}`, broker.ToUser("Zoë")},
		"to a topic":  {`{"topic":"chat.workshop","data":"hi"}`, broker.ToTopic("chat.workshop")},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, b := config(), &recorder{}
			cfg.Publisher = b

			reply := postTo(newPage(t, cfg), "/demo/publish", plain, test.body)
			if want := `{"id":"","recipients":0}`; reply.Code != http.StatusOK || reply.Body.String() != want {
				t.Errorf("%d %s, want 200 %s", reply.Code, reply.Body, want)
			}

			if len(b.at) != 1 || len(b.at[test.audience]) != 1 || b.data[0] != "hi" {
				t.Errorf("published %q to %v, want hi to %v", b.data, b.at, test.audience)
			}
		})
	}
}

func TestPublishErrors(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, body string
		fail              error
		status            int
		reason            string
	}{
		"form":           {form, "data=hi", nil, 415, "invalid Content-Type"},
		"broken JSON":    {plain, `{"data"`, nil, 400, "invalid JSON"},
		"wrong type":     {plain, `{"data":7}`, nil, 400, "invalid JSON"},
		"unknown member": {plain, `{"data":"hi","event":"x"}`, nil, 400, `unknown member "event"`},
		"user and topic": {plain, `{"user":"a","topic":"b","data":"hi"}`, nil, 400, "both user and topic are set"},
		"too large":      {plain, `{"data":"` + strings.Repeat("x", 20_000) + `"}`, nil, 413, "reading the request"},
		"invalid":        {plain, `{"data":""}`, &broker.InvalidError{Field: "data", Reason: "is empty"}, 400, "data is empty"},
		"unavailable":    {plain, `{"data":"hi"}`, &broker.UnavailableError{Reason: "no quorum of n1"}, 503, "try again"},
		"shutting down":  {plain, `{"data":"hi"}`, broker.ErrClosed, 503, "try again"},
		"other":          {plain, `{"data":"hi"}`, errors.New("disk secret-disk is full"), 500, "try again"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Publisher = &recorder{fail: test.fail}

			reply := postTo(newPage(t, cfg), "/demo/publish", test.contentType, test.body)
			if reply.Code != test.status || !strings.Contains(reply.Body.String(), test.reason) {
				t.Errorf("%d %q, want %d %q", reply.Code, reply.Body, test.status, test.reason)
			}
		})
	}

	t.Run("control plane requires a token", func(t *testing.T) {
		cfg, b := config(), &recorder{}
		cfg.Publisher, cfg.ControlToken = b, true

		reply := postTo(newPage(t, cfg), "/demo/publish", plain, `{"data":"hi"}`)
		if reply.Code != http.StatusForbidden || len(b.data) > 0 {
			t.Errorf("%d and published %q, want 403 and nothing", reply.Code, b.data)
		}
	})
}
