package cluster

import (
	"strings"
	"testing"
	"time"
)

func TestReplicaCheck(t *testing.T) {
	t.Parallel()
	follows := Member{Name: "a", Current: true, Silent: time.Second}
	type moment struct {
		after  time.Duration
		member Member
		local  *extent
		leader extent
	}

	whole := moment{0, follows, &extent{1, 10, 10}, extent{1, 10, 10}}
	for name, test := range map[string]struct {
		moments []moment
		sound   bool
		trouble string // part of it; empty for none
	}{
		"whole":        {moments: []moment{whole}, sound: true},
		"a bit behind": {moments: []moment{whole, {time.Second, follows, &extent{1, 9, 9}, extent{1, 12, 12}}}, sound: true},
		"being filled": {moments: []moment{{0, follows, nil, extent{1, 10, 10}}, {5 * time.Second, follows, &extent{1, 5, 5}, extent{1, 10, 10}}}},
		"filled":       {moments: []moment{{0, follows, nil, extent{1, 10, 10}}, {5 * time.Second, follows, &extent{1, 11, 11}, extent{1, 11, 11}}}, sound: true},
		"never filled": {moments: []moment{{0, follows, nil, extent{1, 10, 10}}, {20 * time.Second, follows, nil, extent{1, 11, 11}}}, trouble: "no entries"},
		"stuck":        {moments: []moment{whole, {time.Second, follows, &extent{1, 10, 10}, extent{1, 12, 12}}, {20 * time.Second, follows, &extent{1, 10, 10}, extent{1, 12, 12}}}, trouble: "entry 10 of 12"},
		"far behind with progress": {moments: []moment{
			whole,
			{time.Second, follows, &extent{1, 10, 10}, extent{1, 1000, 1000}},
			{10 * time.Second, follows, &extent{1, 1000, 1000}, extent{1, 2000, 2000}},
			{20 * time.Second, follows, &extent{1, 1500, 1500}, extent{1, 3000, 3000}},
		}, sound: true},
		"slowly filled": {moments: []moment{
			{0, follows, nil, extent{1, 1000, 1000}},
			{10 * time.Second, follows, &extent{1, 200, 200}, extent{1, 1000, 1000}},
			{20 * time.Second, follows, &extent{1, 400, 400}, extent{1, 1000, 1000}},
		}},
		"with a gap":      {moments: []moment{{0, follows, &extent{1, 10, 9}, extent{1, 10, 10}}}, trouble: "9 entries of 10"},
		"other range":     {moments: []moment{whole, {time.Second, follows, &extent{2, 10, 9}, extent{1, 10, 10}}}, sound: true},
		"unreachable":     {moments: []moment{whole, {time.Second, Member{Name: "a", Silent: time.Minute}, &extent{1, 10, 10}, extent{1, 10, 10}}}, trouble: "can't reach it"},
		"reachable again": {moments: []moment{whole, {time.Second, Member{Name: "a", Silent: time.Minute}, &extent{1, 10, 10}, extent{1, 10, 10}}, whole}, sound: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var check replicaCheck
			start := time.Now()
			var sound bool
			var trouble string
			for _, m := range test.moments {
				sound, trouble = check.update(start.Add(m.after), m.member, m.local, m.leader)
			}
			if sound != test.sound || (trouble == "") != (test.trouble == "") || !strings.Contains(trouble, test.trouble) {
				t.Errorf("sound: %t, trouble %q; want %t and %q", sound, trouble, test.sound, test.trouble)
			}
		})
	}
}
