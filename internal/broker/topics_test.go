package broker_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/peald/peald/internal/broker"
)

func toTopic(topic, data string) broker.Message {
	return broker.Message{Audience: broker.ToTopic(topic), Data: data}
}

func TestTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		clients := map[string]*client{}
		for name, topics := range map[string][]string{
			"none": nil, "one": {"orders.new"}, "two": {"orders.new", "alerts"}, "star": {"orders.*"}, "rest": {"orders.>"},
			"all": {">"}, "overlapping": {"orders.new", "orders.*", ">"}, "odd": {"a..b", "*x"},
		} {
			clients[name] = connect(t, b, broker.Subscription{Topics: topics}, -1)
		}

		for topic, want := range map[string]string{
			"orders.new": "all one overlapping rest star two", "orders.new.eu": "all overlapping rest", "orders": "all overlapping", "alerts": "all overlapping two",
			"a..b": "odd", "*x": "all odd overlapping", "ünï cödé": "all overlapping",
		} {
			r := publish(t, b, toTopic(topic, topic))
			synctest.Wait()
			var got []string
			for name, c := range clients {
				for _, data := range c.data() {
					if data == topic {
						got = append(got, name) // twice for a duplicate
					}
				}
			}
			slices.Sort(got)
			if strings.Join(got, " ") != want || r.Recipients != len(got) {
				t.Errorf("%q reached %q with %d recipients, want %q", topic, got, r.Recipients, want)
			}
		}

		if got := clients["star"].events(); len(got) == 0 || got[0].typ != "topic" {
			t.Errorf("the event is %q, want type topic", got)
		}

		topics := b.Topics("orders", "", 10)
		if want := []broker.Topic{{"orders.*", 2}, {"orders.>", 1}, {"orders.new", 3}}; !slices.Equal(topics, want) {
			t.Errorf("topics %v, want %v", topics, want)
		}

		for _, c := range clients {
			c.stream.HangUp()
		}

		synctest.Wait()
		if got := b.Topics("", "", 10); len(got) != 0 {
			t.Errorf("topics %v remain", got)
		}

		if r := publish(t, b, toTopic("orders.new", "x")); r.Recipients != 0 {
			t.Errorf("%d recipients remain", r.Recipients)
		}
	})
}

func TestTopicNames(t *testing.T) {
	for pattern, ok := range map[string]bool{
		"a": true, "a.b": true, "a..b": true, ".": true, "*": true, ">": true, "a.*.c": true, "a.>": true, "a*": true, "a>b.c": true,
		strings.Repeat("x", 255): true, strings.Repeat("x", 256): false, "": false, "a\nb": false, "a\xff": false,
		">.a": false, "a.>.b": false, "a..*": false, ".>": false, "*.": false,
	} {
		if err := broker.ValidPattern(pattern); (err == nil) != ok {
			t.Errorf("pattern %q: error %v, want valid %v", pattern, err, ok)
		}
	}

	for topic, ok := range map[string]bool{"a.b": true, "a*": true, "a.*": false, ">": false, "": false, "a\x00": false} {
		if err := broker.ValidTopic(topic); (err == nil) != ok {
			t.Errorf("topic %q: error %v, want valid %v", topic, err, ok)
		}
	}

	for _, c := range []struct {
		allowed, pattern string
		want             bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"*", "a", true}, {"*", "*", true}, {"*", ">", false}, {">", ">", true}, {">", "a.b", true},
		{"a.*", "a.b", true}, {"a.*", "a.b.c", false}, {"a.*", "a", false}, {"a.>", "a.b.c", true}, {"a.>", "a.*", true}, {"a.>", "a.*.>", true},
		{"a.>", "a", false}, {"a.>", "b.c", false}, {"*.b", "a.b", true}, {"*.b", "a.*", false}, {"a.b", "a.*", false}, {">", "a..b", false},
		{"a..b", "a..b", true}, {"*", "", false},
	} {
		if got := broker.Covers(c.allowed, c.pattern); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.allowed, c.pattern, got, c.want)
		}
	}
}
