package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// read returns the events after a position in JSON, as "data:topic" or
// "data:topic+topic".
func read(t *testing.T, d *pealdtest.Daemon, user, position string, topics ...string) string {
	t.Helper()

	query := []string{"last_event_id", position}
	for _, topic := range topics {
		query = append(query, "topic", topic)
	}

	header := []string{"Accept", "application/json"}
	if user != "" {
		reply, err := d.Control(t).CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: user, Topics: topics})
		if err != nil {
			t.Fatal(err)
		}

		header = append(header, "Authorization", "Bearer "+reply.GetToken())
	}

	var batch struct {
		Events []struct {
			Event, Topic, Data string
			Topics             []string
		}
		Reset any
	}

	response := open(t, with(d.Events(t, ""), query...), header...)
	if err := json.NewDecoder(response.Body).Decode(&batch); err != nil || response.StatusCode != http.StatusOK || batch.Reset != nil {
		t.Fatalf("%s, reset %v: %v", response.Status, batch.Reset, err)
	}

	var all []string

	for _, e := range batch.Events {
		names := e.Topic
		if len(e.Topics) > 0 {
			names = strings.Join(e.Topics, "+")
		}

		data := e.Data
		if e.Event == "peald.end" {
			data = "end"
		}

		all = append(all, data+":"+names)
	}

	return strings.Join(all, " ")
}

// TestSeveralTopicsInACluster publishes a batch with messages for several topics on one
// node of a cluster, and reads them on all nodes, of which one has been restarted since.
func TestSeveralTopicsInACluster(t *testing.T) {
	anonymous := func(cfg *daemon.Config) { cfg.Auth.AnonymousTopics = []string{">"} }
	nodes := pealdtest.InCluster(t, 3)

	var daemons []*pealdtest.Daemon
	for _, node := range nodes {
		daemons = append(daemons, pealdtest.Start(t, node, anonymous))
	}

	for _, d := range daemons {
		d.WaitUntilReady(t)
	}

	var position pealv1.GetPositionResponse

	rest(t, daemons[0], http.MethodGet, "/v1/position", "", &position)

	live := make([]func(int) ([]frame, error), 0, len(daemons))
	for i, d := range daemons {
		live = append(live, inGoSSE(t, with(d.Events(t, ""), "topic", "a", "topic", "c", "envelope", "1")))
		d.WaitForStreams(t, int32(i+1)) // in the whole cluster
	}

	var batch pealv1.PublishBatchResponse

	rest(t, daemons[0], http.MethodPost, "/v1/messages:batch", `{"messages":[
		{"topics":["a","b","c"],"data":"1"},
		{"topics":["b","c"],"data":"2","exclude_user_id":"alice"},
		{"everyone":true,"data":"3","exclude_user_id":"alice"},
		{"topics":["b","b"],"data":""},
		{"topic":"d","topics":["c"],"data":"5","final":true},
		{"topic":"a","data":"6"}]}`, &batch)

	for i, r := range batch.GetResults() {
		if (r.GetError() != nil) != (i == 3) {
			t.Errorf("result %d is %v", i, r)
		}
	}

	want := []string{`"topic":"a","topics":["a","c"]`, `"topic":"c","event"`, `"broadcast":true`, `"topic":"c","event"`, `{"topic":"c"}`, `"topic":"a","event"`}
	for i, stream := range live {
		got, err := stream(len(want))
		if err != nil || len(got) != len(want) {
			t.Fatalf("node %d: %v, %v", i, got, err)
		}

		for j, part := range want {
			if !strings.Contains(got[j].Data, part) {
				t.Errorf("node %d: event %d has %s, want %s", i, j, got[j].Data, part)
			}
		}
	}

	daemons[1].Stop(t)
	daemons[1] = pealdtest.Start(t, nodes[1], anonymous)
	daemons[1].WaitUntilReady(t)

	for i, d := range daemons {
		for who, want := range map[string]string{
			" a":      "1:a 3: 6:a",
			" c b":    "1:b+c 2:b+c 3: 5:c end:c",
			" *":      "1:a+b+c 2:b+c 3: 5:d+c end:d end:c 6:a",
			"alice c": "1:c 5:c end:c",
			"bob d":   "3: 5:d end:d",
		} {
			user, topics, _ := strings.Cut(who, " ")
			if got := read(t, d, user, position.GetId(), strings.Fields(topics)...); got != want {
				t.Errorf("node %d: %q reads %q, want %q", i, who, got, want)
			}
		}
	}
}
