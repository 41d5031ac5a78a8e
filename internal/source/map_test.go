package source_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
)

// topicSchema describes records like those of Kafka.
func topicSchema() source.Schema {
	return source.Schema{
		Origin: "topic", Field: "header", Key: true, Value: true,
		Default: source.Map{Topic: "{topic}", Data: "{value}", Event: "{header.event}"},
	}
}

// recorder is a [source.Publisher] that records messages.
type recorder struct {
	messages []broker.Message
}

func (*recorder) Ready() error { return nil }

func (r *recorder) PublishInOrder(_ context.Context, messages []broker.Message) ([]error, error) {
	r.messages = append(r.messages, messages...)

	return make([]error, len(messages)), nil
}

// kind is a [source.Kind] whose reader is a function.
type kind struct {
	setting string
	schema  source.Schema
	run     *func(ctx context.Context, sink *source.Sink) error
}

func (kind) Kind() string                             { return "test" }
func (kind) Validate() error                          { return nil }
func (k kind) Schema() source.Schema                  { return k.schema }
func (k kind) NewReader(source.Options) source.Reader { return reader(*k.run) }

type reader func(ctx context.Context, sink *source.Sink) error

func (r reader) Run(ctx context.Context, sink *source.Sink) error { return r(ctx, sink) }

// publish passes records to the sink of a source with the given map, and returns the
// messages and what is settled.
func publish(t *testing.T, m source.Map, schema source.Schema, records ...source.Record) (published []broker.Message, settled source.Settled) {
	t.Helper()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	var err error
	run := func(ctx context.Context, sink *source.Sink) error {
		settled, err = sink.Publish(ctx, records)
		stop()
		<-ctx.Done()

		return nil
	}

	to := &recorder{}
	manager := source.NewManager(source.Config{Publisher: to})
	manager.Reconfigure([]source.Source{{Name: "orders", Kind: kind{schema: schema, run: &run}, Map: m}})
	manager.Run(ctx)
	if err != nil {
		t.Fatalf("publish: %v", err)
	}

	return to.messages, settled
}

func TestMap(t *testing.T) {
	t.Parallel()

	record := source.Record{
		Origin: "shop.orders", Partition: "3", Offset: "17", Key: []byte("c42"),
		Value: []byte(`{"customer":{"id":7,"name":"Zoë \"Z\"","vip":true,"gone":null},"lines":[1,2],"a.b":1}`),
		Fields: []source.Field{
			{Name: "event", Value: "first"}, {Name: "ttl", Value: "1m30s"}, {Name: "content.type", Value: "json"},
			{Name: "empty", Value: ""}, {Name: "yes", Value: "true"}, {Name: "event", Value: "created"},
		},
	}
	whole := string(record.Value)

	for name, test := range map[string]struct {
		given source.Map
		want  broker.Message
	}{
		"defaults":              {source.Map{}, broker.Message{Audience: broker.ToTopic("shop.orders"), Data: whole, Event: "created"}},
		"own audience":          {source.Map{UserID: "{key}"}, broker.Message{Audience: broker.ToUser("c42"), Data: whole, Event: "created"}},
		"text and placeholders": {source.Map{Topic: "orders.{key}.{partition}-{offset}"}, broker.Message{Audience: broker.ToTopic("orders.c42.3-17"), Data: whole, Event: "created"}},
		"braces":                {source.Map{Topic: "a", Data: "{{{key}}}", Event: "}}{{"}, broker.Message{Audience: broker.ToTopic("a"), Data: "{c42}", Event: "}{"}},
		"members": {
			source.Map{UserID: "{value.customer.id}", Event: "{value.customer.vip}", Data: "{value.customer.name}"},
			broker.Message{Audience: broker.ToUser("7"), Event: "true", Data: `Zoë "Z"`},
		},
		"object as data": {source.Map{Topic: "t", Data: "{value.customer}", Event: "e"}, broker.Message{Audience: broker.ToTopic("t"), Event: "e", Data: `{"id":7,"name":"Zoë \"Z\"","vip":true,"gone":null}`}},
		"array as data":  {source.Map{Topic: "t", Data: "{value.lines}", Event: "e"}, broker.Message{Audience: broker.ToTopic("t"), Event: "e", Data: `[1,2]`}},
		"header with a dot": {
			source.Map{Event: "{header.content.type}"}, broker.Message{Audience: broker.ToTopic("shop.orders"), Data: whole, Event: "json"},
		},
		"missing values": {
			source.Map{Topic: "{header.no}", UserID: "{value.customer.gone}{key}", Everyone: "{header.yes}", ConflateKey: "{header.empty}", Event: "{value.no.such}", TTL: "{header.no}"},
			broker.Message{Audience: broker.Everyone(), Data: whole},
		},
		"everything else": {
			source.Map{ConflateKey: "{key}", Retain: "{header.yes}", Final: "true", TTL: "{header.ttl}", IdempotencyKey: "{topic}/{offset}"},
			broker.Message{Audience: broker.ToTopic("shop.orders"), Data: whole, Event: "created", ConflateKey: "c42", Retain: true, Final: true, TTL: 90 * time.Second, IdempotencyKey: "shop.orders/17"},
		},
		"several topics": {
			source.Map{Topic: "{topic}", Topics: []string{"{header.no}", "orders.{key}", "{topic}", "all"}, ExcludeUserID: "{key}"},
			broker.Message{Audience: broker.ToTopic("orders.c42"), Topics: []string{"shop.orders", "all"}, ExcludeUser: "c42", Data: whole, Event: "created"},
		},
		"everyone": {source.Map{Everyone: "true", UserID: "{header.no}"}, broker.Message{Audience: broker.Everyone(), Data: whole, Event: "created"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			messages, settled := publish(t, test.given, topicSchema(), record)
			if len(messages) != 1 || settled.Count != 1 || len(settled.Rejected) != 0 {
				t.Fatalf("%d messages, settled %+v; want one message", len(messages), settled)
			}

			got := messages[0]
			if test.want.IdempotencyKey == "" {
				if !strings.HasPrefix(got.IdempotencyKey, "peald-source:") {
					t.Errorf("idempotency key %q; want a derived key", got.IdempotencyKey)
				}
				got.IdempotencyKey = ""
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestRejectedRecords(t *testing.T) {
	t.Parallel()

	const secret = "do-not-log"
	good := source.Record{Origin: "t", Offset: "1", Value: []byte(`{"a":"` + secret + `"}`), Fields: []source.Field{{Name: "yes", Value: "true"}, {Name: "bad", Value: secret}}}

	for name, test := range map[string]struct {
		given source.Map
		value string
		want  string
	}{
		"two audiences":        {source.Map{Topic: "t", UserID: "u"}, "x", "only one of topics, user_id and everyone"},
		"three audiences":      {source.Map{Topic: "t", Everyone: "{header.yes}"}, "x", "only one of topics, user_id and everyone"},
		"no audience":          {source.Map{Topic: "{header.no}"}, "x", "audience is missing"},
		"invalid topic":        {source.Map{Topic: "a.*.{offset}"}, "x", "topic "},
		"no data":              {source.Map{Data: "{header.no}"}, "x", "data is empty"},
		"neither true nor not": {source.Map{Retain: "{header.bad}"}, "x", "retain: the record's value isn't valid; want true or false"},
		"invalid duration":     {source.Map{TTL: "{header.bad}"}, "x", "ttl: the record's value isn't valid; want a duration"},
		"duration of zero":     {source.Map{TTL: "{offset}ms"}, "x", ""},
		"not JSON":             {source.Map{Event: "{value.a}"}, "{" + secret, "event: the record's value isn't a valid JSON object"},
		"not an object":        {source.Map{Event: "{value.a}"}, `["` + secret + `"]`, "event: the record's value isn't a valid JSON object"},
		"duplicate member":     {source.Map{Event: "{value.a}"}, `{"a":1,"b":{"c":1,"c":2}}`, "event: the record's value isn't a valid JSON object"},
		"object in an event":   {source.Map{Event: "{value.a}"}, `{"a":{}}`, "event: the member of the record's value is an object or array"},
		"object in longer data": {
			source.Map{Data: "{value.a} "}, `{"a":{}}`, "data: the member of the record's value is an object or array",
		},
		"not UTF-8":      {source.Map{}, "\xff", "data is not valid UTF-8"},
		"reserved event": {source.Map{Event: "peald.{offset}"}, "x", "event is \"peald.1\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			bad := good
			bad.Value = []byte(test.value)
			messages, settled := publish(t, test.given, topicSchema(), bad, bad)
			if test.want == "" {
				if len(settled.Rejected) != 0 {
					t.Errorf("rejected: %v", settled.Rejected)
				}

				return
			}
			if len(messages) != 0 || settled.Count != 2 || len(settled.Rejected) != 2 || settled.Rejected[1].Index != 1 {
				t.Fatalf("%d messages, settled %+v; want two rejected records", len(messages), settled)
			}
			if reason := settled.Rejected[0].Err.Error(); !strings.Contains(reason, test.want) || strings.Contains(reason, secret) {
				t.Errorf("rejected with %q; want %q and nothing of the value", reason, test.want)
			}
		})
	}
}

func TestInvalidMaps(t *testing.T) {
	t.Parallel()

	columns := source.Schema{Origin: "table", Field: "column"}

	for name, test := range map[string]struct {
		given  source.Map
		schema source.Schema
		want   string // the error; empty if the map is valid
	}{
		"unknown placeholder": {source.Map{Topic: "orders.{ky}"}, topicSchema(), `map.topic: given "orders.{ky}"; want only placeholders that the source has: {topic}, {key}, {header.NAME}, {value}, {value.MEMBER}, {partition}, {offset}`},
		"no key in columns":   {source.Map{Topic: "{key}", Data: "{column.d}"}, columns, `map.topic: given "{key}"; want only placeholders that the source has: {table}, {column.NAME}, {partition}, {offset}`},
		"value of columns":    {source.Map{Topic: "a", Data: "{value.d}"}, columns, `map.data: given "{value.d}"; want only placeholders`},
		"open brace":          {source.Map{Topic: "{key"}, topicSchema(), `map.topic: given "{key"; want braces in pairs`},
		"closing brace":       {source.Map{Topic: "key}"}, topicSchema(), `map.topic: given "key}"; want braces in pairs`},
		"nested":              {source.Map{Topic: "{a{key}}"}, topicSchema(), `map.topic: given`},
		"header without name": {source.Map{Event: "{header.}"}, topicSchema(), `map.event: given "{header.}"; want only`},
		"just header":         {source.Map{Event: "{header}"}, topicSchema(), `map.event: given "{header}"; want only`},
		"empty member":        {source.Map{Event: "{value.a..b}"}, topicSchema(), `map.event: given`},
		"wrong topic":         {source.Map{Topic: "a.*"}, topicSchema(), `map.topic: given "a.*"; want a valid value: this topic `},
		"wrong event":         {source.Map{Event: "peald.x"}, topicSchema(), `map.event: given "peald.x"; want a valid value: this event `},
		"wrong retain":        {source.Map{Retain: "yes"}, topicSchema(), `map.retain: given "yes"; want true or false`},
		"wrong ttl":           {source.Map{TTL: "90"}, topicSchema(), `map.ttl: given "90"; want a duration of more than 0, such as 90s`},
		"ttl too long":        {source.Map{TTL: "100000h"}, topicSchema(), `map.ttl: given "100000h"; want a valid value: this ttl `},
		"wrong one of topics": {source.Map{Topics: []string{"a", "b.>"}}, topicSchema(), `map.topics[1]: given "b.>"; want a valid value: this topic`},
		"wrong excluded user": {source.Map{ExcludeUserID: "{kye}"}, topicSchema(), `map.exclude_user_id: given "{kye}"; want only`},
		"no audience":         {source.Map{Data: "x"}, columns, "map: given no audience; want map.topic, map.topics, map.user_id or map.everyone"},
		"no data":             {source.Map{Topic: "x"}, columns, "map.data: given \"\"; want a template"},
		"valid":               {source.Map{Topic: "{table}", Data: "{column.a.b}", Final: "true", TTL: "1h"}, columns, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, err := source.NewMapping(test.given, test.schema)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}

				return
			}
			if _, ok := errors.AsType[*source.SettingError](err); !ok || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
}

// TestKeys checks that records have the same derived key exactly if they are the same.
func TestKeys(t *testing.T) {
	t.Parallel()

	parts := []string{"", "a", "b", "ab", "\x00", "\x01", "\x01\x02", "a\x00b", "\x00\x00"}
	keys := make(map[string]string)
	for _, partition := range parts {
		for _, offset := range parts {
			record := source.Record{Origin: "t", Partition: partition, Offset: offset, Value: []byte("x")}
			messages, _ := publish(t, source.Map{}, topicSchema(), record, record)
			if messages[0].IdempotencyKey != messages[1].IdempotencyKey {
				t.Fatalf("different keys for the same record: %q, %q", messages[0].IdempotencyKey, messages[1].IdempotencyKey)
			}

			id := fmt.Sprintf("%q %q", partition, offset)
			if other, used := keys[messages[0].IdempotencyKey]; used {
				t.Errorf("the same key for %s and %s", id, other)
			}
			keys[messages[0].IdempotencyKey] = id
		}
	}
}

// FuzzMap checks that a template is either rejected at startup or always yields a
// message that the broker accepts, or a reason.
func FuzzMap(f *testing.F) {
	for _, seed := range []struct{ topic, data, key, value string }{
		{"orders.{key}", "{value}", "7", "x"},
		{"{value.a.b}", "{value.c}", "", `{"a":{"b":"t"},"c":[1]}`},
		{"{{}}{header.h}", "{value.}", "k", "{}"},
		{"{topic", "}", "", ""},
		{"{partition}{offset}", "{{{value}}}", "\xff", `{"a":1,"a":2}`},
	} {
		f.Add(seed.topic, seed.data, seed.key, []byte(seed.value))
	}

	f.Fuzz(func(t *testing.T, topic, data, key string, value []byte) {
		given := source.Map{Topic: topic, Data: data, Event: "{header.h}"}
		if _, err := source.NewMapping(given, topicSchema()); err != nil {
			if _, ok := errors.AsType[*source.SettingError](err); !ok {
				t.Errorf("error %v isn't a SettingError", err)
			}

			return
		}

		record := source.Record{Origin: "t", Partition: "0", Offset: "1", Key: []byte(key), Value: value, Fields: []source.Field{{Name: "h", Value: key}}}
		messages, settled := publish(t, given, topicSchema(), record)
		if settled.Count != 1 || len(messages)+len(settled.Rejected) != 1 {
			t.Fatalf("%d messages, settled %+v", len(messages), settled)
		}
		for _, m := range messages {
			if err := m.Validate(); err != nil {
				t.Errorf("published an invalid message: %v", err)
			}
		}
		for _, r := range settled.Rejected {
			if reason := r.Err.Error(); reason == "" || !utf8.ValidString(reason) {
				t.Errorf("rejected with %q", reason)
			}
		}
	})
}
