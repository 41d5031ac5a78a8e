package cloudevents_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/cloudevents"
)

// binary returns the header of a valid event in the binary mode, with further headers,
// which alternate between names and values.
func binary(more ...string) http.Header {
	header := http.Header{}
	all := append([]string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/shop", "ce-type", "paid"}, more...)
	for i := 0; i < len(all); i += 2 {
		header.Add(all[i], all[i+1])
	}

	return header
}

func contentType(value string) http.Header { return http.Header{"Content-Type": {value}} }

const (
	maxBatch = 1000

	structured = "application/cloudevents+json"
	batch      = "application/cloudevents-batch+json"
)

// one returns the only event of a request.
func one(t *testing.T, header http.Header, body string) cloudevents.Event {
	t.Helper()

	request, err := cloudevents.FromHTTP(header, []byte(body), maxBatch)
	if err != nil || request.Batch || len(request.Events) != 1 || request.Events[0].Err != nil {
		t.Fatalf("%v %q: %+v, %v", header, body, request, err)
	}

	return request.Events[0].Event
}

func TestAttributes(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		header http.Header
		body   string
	}{
		"binary": {binary("ce-subject", "orders.7", "ce-time", "2026-01-31T17:31:00Z", "ce-dataschema", "https://x/y", "ce-pealdtopic", "a",
			"ce-pealdretain", "true", "ce-other", "7", "content-type", "application/json"), `{"n":1}`},
		"structured": {contentType(structured + "; charset=utf-8"), "\uFEFF" + `{"specversion":"1.0","id":"1","source":"/shop","type":"paid","subject":"orders.7",
			"time":"2026-01-31T17:31:00Z","dataschema":"https://x/y","pealdtopic":"a","pealdretain":true,"other":7,"unset":null,
			"datacontenttype":"application/json","data": {"n":1} }`},
	} {
		e := one(t, test.header, test.body)

		extensions := e.Extensions("peald")
		if e.Type() != "paid" || e.Subject() != "orders.7" || len(extensions) != 2 || extensions["pealdtopic"] != "a" || extensions["pealdretain"] != "true" {
			t.Errorf("%s: %q, %q, %v", name, e.Type(), e.Subject(), extensions)
		}

		if text, err := e.Text(); text != `{"n":1}` || err != nil {
			t.Errorf("%s: text %q, %v", name, text, err)
		}

		const want = `{"specversion":"1.0","id":"1","source":"/shop","type":"paid","subject":"orders.7","datacontenttype":"application/json",` +
			`"dataschema":"https://x/y","time":"2026-01-31T17:31:00Z","other":%,"data":{"n":1}}`
		other := map[string]string{"binary": `"7"`, "structured": `7`}[name]
		if got, err := e.JSON("peald"); got != strings.Replace(want, "%", other, 1) || err != nil {
			t.Errorf("%s: JSON %s, %v", name, got, err)
		}
	}
}

func TestData(t *testing.T) {
	t.Parallel()

	const event = `{"specversion":"1.0","id":"1","source":"/shop","type":"paid"`

	for name, test := range map[string]struct {
		header http.Header
		body   string

		text   string
		err    error
		member string // in JSON; empty if there is none
	}{
		"text":              {binary("content-type", "text/plain"), "a \"b\"\n", "a \"b\"\n", nil, `"data":"a \"b\"\n"`},
		"no type, text":     {binary(), "hello", "hello", nil, `"data_base64":"aGVsbG8="`},
		"no type, JSON":     {binary(), `[1]`, `[1]`, nil, `"data":[1]`},
		"no data":           {binary("content-type", "text/plain"), "", "", cloudevents.ErrNoData, ""},
		"binary":            {binary("content-type", "image/png"), "\x89PNG\xff", "", cloudevents.ErrBinary, `"data_base64":"iVBOR/8="`},
		"Latin-1":           {binary("content-type", "text/plain; charset=iso-8859-1"), "caf\xe9", "", cloudevents.ErrBinary, `"data_base64":"Y2Fm6Q=="`},
		"JSON suffix":       {binary("content-type", "application/problem+json"), `{"a": 1}`, `{"a": 1}`, nil, `"data":{"a": 1}`},
		"structured":        {contentType(structured), event + `,"data":[1, 2]}`, `[1, 2]`, nil, `"data":[1, 2]`},
		"string":            {contentType(structured), event + `,"data":"a\u00e9"}`, `"a\u00e9"`, nil, `"data":"a\u00e9"`},
		"null":              {contentType(structured), event + `,"data":null}`, `null`, nil, `"data":null`},
		"structured text":   {contentType(structured), event + `,"datacontenttype":"text/plain","data":"a\u00e9"}`, `aé`, nil, `"data":"aé"`},
		"structured suffix": {contentType(structured), event + `,"data":{"a":1},"datacontenttype":"application/problem+json"}`, `{"a":1}`, nil, `"data":{"a":1}`},
		"repeated in data":  {contentType(structured), event + `,"data":{"a":1,"a":2}}`, `{"a":1,"a":2}`, nil, `"data":{"a":1,"a":2}`},
		"base64 of text":    {contentType(structured), event + `,"datacontenttype":"text/plain","data_base64":"aGk="}`, `hi`, nil, `"data_base64":"aGk="`},
		"base64":            {contentType(structured), event + `,"datacontenttype":"image/png","data_base64":"/w=="}`, "", cloudevents.ErrBinary, `"data_base64":"/w=="`},
		"empty":             {contentType(structured), event + `,"datacontenttype":"text/plain","data":""}`, "", nil, `"data":""`},
		"structured none":   {contentType(structured), event + `}`, "", cloudevents.ErrNoData, ""},
	} {
		e := one(t, test.header, test.body)
		if text, err := e.Text(); text != test.text || !errors.Is(err, test.err) {
			t.Errorf("%s: text %q, %v; want %q, %v", name, text, err, test.text, test.err)
		}

		got, err := e.JSON("peald")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if has := strings.Contains(got, `"data`) && !strings.HasSuffix(got, `"datacontenttype":"text/plain"}`); has != (test.member != "") ||
			test.member != "" && !strings.HasSuffix(got, ","+test.member+"}") {
			t.Errorf("%s: JSON %s; want %s at the end", name, got, test.member)
		}

		// Reading the whole event again results in the same event.
		again := one(t, contentType(structured), got)
		if second, err := again.JSON(""); second != got || err != nil {
			t.Errorf("%s: JSON %s becomes %s, %v", name, got, second, err)
		}
	}
}

// Headers are decoded as the examples in the HTTP protocol binding are.
func TestHeadersAreDecoded(t *testing.T) {
	t.Parallel()

	for value, want := range map[string]string{
		"Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀",
		"Euro \u20ac":                     "Euro €",
		`"quoted \"value\"\\"`:            `quoted "value"\`,
		`"%41"`:                           "A",
		"%2541":                           "%41",
		"100%":                            "100%",
		"5%zz":                            "5%zz",
		`in "the" middle`:                 `in "the" middle`,
	} {
		if e := one(t, binary("ce-subject", value), "x"); e.Subject() != want {
			t.Errorf("%q is decoded to %q, want %q", value, e.Subject(), want)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()

	key := func(id, source string) string {
		e := one(t, binary("ce-pealdtopic", id+source), "x")
		if id != "" {
			header := binary()
			header.Set("Ce-Id", id)
			header.Set("Ce-Source", source)
			e = one(t, header, "x")
		}

		return e.Key()
	}

	if first, second := key("1", "/a"), key("1", "/a"); len(first) != 55 || second != first {
		t.Errorf("the key is %q, and then %q", first, second)
	}

	keys := []string{key("1", "/a"), key("2", "/a"), key("1", "/b"), key("1/", "a"), key("/a", "1")}
	if slices.Sort(keys); len(slices.Compact(keys)) != 5 {
		t.Errorf("the keys are %q", keys)
	}
}

func TestInvalidEvents(t *testing.T) {
	t.Parallel()

	const event = `{"specversion":"1.0","id":"1","source":"/shop","type":"paid"`

	without := func(name string) http.Header {
		header := binary()
		header.Del(name)
		return header
	}

	for name, test := range map[string]struct {
		header http.Header
		body   string
		want   string // the error's message
	}{
		"no id":               {without("ce-id"), "x", "id is missing"},
		"no source":           {without("ce-source"), "x", "source is missing"},
		"no type":             {without("ce-type"), "x", "type is missing"},
		"no specversion":      {without("ce-specversion"), "x", "specversion is missing"},
		"nothing":             {contentType(structured), "{}", "specversion is missing; id is missing; source is missing; type is missing"},
		"version 0.3":         {contentType(structured), `{"specversion":"0.3","id":"1","source":"/shop","type":"paid"}`, `specversion is "0.3"; want "1.0"`},
		"repeated header":     {binary("ce-id", "2"), "x", "id is given more than once"},
		"repeated extension":  {binary("ce-a", "1", "ce-a", "1"), "x", "a is given more than once"},
		"empty name":          {binary("ce-", "1"), "x", `"" is not the name of an attribute; names consist of a to z and 0 to 9, and can't be data`},
		"dash":                {binary("ce-a-b", "1"), "x", `"a-b" is not the name of an attribute; names consist of a to z and 0 to 9, and can't be data`},
		"data as a header":    {binary("ce-data", "1"), "x", "data is not the name of an attribute; names consist of a to z and 0 to 9, and can't be data"},
		"type of data":        {binary("ce-datacontenttype", "a/b"), "x", "datacontenttype must be in the header Content-Type"},
		"not UTF-8":           {binary("ce-subject", "a\xff"), "x", "subject is not valid UTF-8"},
		"overlong":            {binary("ce-subject", "%C0%A0"), "x", "subject is not valid UTF-8"},
		"unfinished":          {binary("ce-subject", `"a`), "x", `subject is "\"a", an unfinished quoted string`},
		"after a quote":       {binary("ce-subject", `"a" b`), "x", `subject is "\"a\" b", an unfinished quoted string`},
		"time":                {binary("ce-time", "yesterday"), "x", `time is "yesterday"; want a time such as 2026-01-31T17:31:00Z`},
		"source":              {binary("ce-id", "1", "ce-dataschema", "%"), "x", ""},
		"not JSON":            {binary("content-type", "application/json"), "{", `data is not JSON, but datacontenttype is "application/json"`},
		"number as id":        {contentType(structured), `{"specversion":"1.0","id":7,"source":"/shop","type":"paid"}`, "id is 7; want a string"},
		"repeated member":     {contentType(structured), event + `,"a":1,"a":1}`, "a is given more than once"},
		"both":                {contentType(structured), event + `,"data":1,"data_base64":""}`, "data_base64 can't be combined with data; set only one of them"},
		"base64":              {contentType(structured), event + `,"data_base64":"?"}`, "data_base64 is not valid base64"},
		"number as base64":    {contentType(structured), event + `,"data_base64":1}`, "data_base64 is a JSON number; want a string in base64"},
		"object as text":      {contentType(structured), event + `,"datacontenttype":"text/plain","data":{}}`, `data is a JSON object, but datacontenttype is "text/plain"; want a string`},
		"list as attribute":   {contentType(structured), event + `,"a":[]}`, "a is a JSON array; want a string, a 32-bit whole number, true or false"},
		"fraction":            {contentType(structured), event + `,"a":1.5}`, "a is 1.5; want a 32-bit whole number, a string, true or false"},
		"upper case":          {contentType(structured), event + `,"Subject":"x"}`, "Subject is not the name of an attribute; names consist of a to z and 0 to 9, and can't be data"},
		"empty member":        {contentType(structured), event + `,"":1}`, `"" is not the name of an attribute; names consist of a to z and 0 to 9, and can't be data`},
		"array":               {contentType(structured), "[]", "the event is a JSON array; want an object"},
		"empty":               {contentType(structured), "", "the event is not JSON: it ends too early"},
		"truncated":           {contentType(structured), event, "the event is not JSON: it ends too early"},
		"two":                 {contentType(structured), event + "} {}", ""},
		"invalid UTF-8":       {contentType(structured), event + ",\"subject\":\"a\xff\"}", ""},
		"half a surrogate":    {contentType(structured), event + `,"subject":"\ud83d"}`, ""},
		"surrogate in data":   {contentType(structured), event + `,"data":"\ud83d"}`, ""},
		"not UTF-8 as data":   {contentType(structured), event + ",\"data\":\"\xff\"}", ""},
		"media type":          {binary("content-type", "/"), "x", `datacontenttype is "/"; want a media type`},
		"content type twice":  {http.Header{"Content-Type": {structured, structured}}, "{}", `"Content-Type" is given more than once`},
		"another format":      {contentType("application/cloudevents+protobuf"), "x", ""},
		"another format, ce-": {binary("content-type", "application/cloudevents+xml"), "x", ""},
		"no mode":             {contentType("application/json"), "{}", ""},
		"no type of data":     {http.Header{}, "", ""},
		"batch of nothing":    {contentType(batch), "", "the body is not JSON: it ends too early"},
		"batch of one":        {contentType(batch), event + "}", "the body is a JSON object; want an array of events"},
		"truncated batch":     {contentType(batch), "[" + event + "}", "the body is not JSON: it ends too early"},
		"text after a batch":  {contentType(batch), "[] x", ""},
		"many":                {contentType(batch), "[1" + strings.Repeat(",1", maxBatch) + "]", "the batch has more than 1000 events; want at most 1000"},
	} {
		request, err := cloudevents.FromHTTP(test.header, []byte(test.body), maxBatch)
		if err == nil && len(request.Events) == 1 {
			err = request.Events[0].Err
		}

		rejected, ok := errors.AsType[*apierror.Error](err)
		if !ok || test.want != "" && rejected.Message != test.want {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
			continue
		}
		if unsupported := strings.HasPrefix(name, "another") || strings.HasPrefix(name, "no mode") || strings.HasPrefix(name, "no type of"); unsupported != (rejected.HTTPStatus == 415) {
			t.Errorf("%s: status %d, %v", name, rejected.HTTPStatus, err)
		}
	}
}

// The events of a batch are independent of each other.
func TestBatch(t *testing.T) {
	t.Parallel()

	const event = `{"specversion":"1.0","id":"1","source":"/shop","type":"paid","data":1}`

	request, err := cloudevents.FromHTTP(contentType(batch), []byte(" [ "+event+`, {"id":"\ud83d"}, 1, {"a":1,"a":2}, `+"{\"\xff\":1},"+event+"]\n"), maxBatch)
	if err != nil || !request.Batch {
		t.Fatalf("%+v, %v", request, err)
	}

	for i, read := range request.Events {
		if valid := i == 0 || i == 5; valid != (read.Err == nil) || i > 5 {
			t.Errorf("event %d: %v", i, read.Err)
		}
	}

	request, err = cloudevents.FromHTTP(contentType(batch), []byte("[]"), maxBatch)
	if err != nil || !request.Batch || len(request.Events) != 0 {
		t.Errorf("an empty batch is %+v, %v", request, err)
	}
}
