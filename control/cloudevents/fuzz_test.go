package cloudevents_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/peald/peald/control/cloudevents"
)

// checkEvent checks that the SDK reads what JSON returns, and as the same event.
func checkEvent(t *testing.T, read cloudevents.Read) {
	t.Helper()

	if read.Err != nil {
		return
	}

	e := read.Event
	if text, err := e.Text(); err == nil && !utf8.ValidString(text) {
		t.Errorf("the text %q is not valid UTF-8", text)
	}
	if e.Type() == "" || len(e.Key()) != 55 {
		t.Errorf("type %q, key %q", e.Type(), e.Key())
	}

	text, err := e.JSON("")
	if err != nil || !json.Valid([]byte(text)) {
		t.Fatalf("JSON %q, %v", text, err)
	}

	// The SDK accepts only a string as data of a type that it doesn't take for JSON.
	var members struct {
		DataContentType string `json:"datacontenttype"`
	}
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.ToLower(members.DataContentType), "json") && members.DataContentType != event.ApplicationJSON {
		return
	}

	var same event.Event
	if err := json.Unmarshal([]byte(text), &same); err != nil {
		t.Fatalf("the SDK rejects %s: %v", text, err)
	}
	if err := same.Validate(); err != nil || same.Type() != e.Type() || same.Subject() != e.Subject() {
		t.Errorf("the SDK reads %s as %v: %v", text, same, err)
	}
}

func FuzzStructured(f *testing.F) {
	for _, text := range []string{
		`{"specversion":"1.0","id":"1","source":"/shop","type":"paid","subject":"a","time":"2026-01-31T17:31:00Z","x":true,"y":7,"data":{"a":[1,"\u00e9"]}}`,
		`{"specversion":"1.0","id":"1","source":"urn:a:b","type":"paid","datacontenttype":"text/plain; charset=x","data":"a\nb"}`,
		`{"specversion":"1.0","id":"1","source":"#","type":"t","datacontenttype":"a/b+json","data_base64":"MQ==","dataschema":"x:"}`,
		`{"specversion":"1.0","id":"\ud83d\ude00","source":"?","type":"t","data":null,"":1}`, `{"data_base64":1}`, `[]`, `{"id":null}`,
	} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := cloudevents.FromHTTP(http.Header{"Content-Type": {structured}}, body, maxBatch)
		if err != nil {
			t.Fatal(err)
		}
		checkEvent(t, request.Events[0])

		whole, err := cloudevents.FromHTTP(http.Header{"Content-Type": {batch}}, append(append([]byte("["), body...), ']'), maxBatch)
		if err == nil && len(whole.Events) == 1 && !bytes.HasPrefix(body, []byte("\uFEFF")) && (whole.Events[0].Err == nil) != (request.Events[0].Err == nil) {
			t.Errorf("in a batch: %v; alone: %v", whole.Events[0].Err, request.Events[0].Err)
		}
	})
}

func FuzzBinary(f *testing.F) {
	f.Add("1", "/shop", "paid", "orders.7", "Pealdtopic", "a", "application/json", []byte("{}"))
	f.Add(`"1\"`, "%41", "%C0%A0", `"a" b`, "", "", "", []byte{0xff})
	f.Add("%", "\xff", " ", "100%", "Time", "2026-01-31T17:31:00Z", "text/plain", []byte("a"))

	f.Fuzz(func(t *testing.T, id, source, kind, subject, name, value, media string, body []byte) {
		header := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {source}, "Ce-Type": {kind}, "Ce-Subject": {subject}}
		header["Ce-"+name] = append(header["Ce-"+name], value)
		if media != "" {
			header["Content-Type"] = []string{media}
		}

		request, err := cloudevents.FromHTTP(header, body, maxBatch)
		if err != nil {
			return // another content mode
		}
		for _, read := range request.Events {
			checkEvent(t, read)
		}
	})
}
