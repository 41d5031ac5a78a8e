package main

import (
	"context"
	"iter"
	"math/rand/v2"
	"strings"
	"time"
)

// parrot stands in for a language model. It repeats the question and adds a text that it
// has learned by heart, one word at a time, for about ten seconds.
func parrot(ctx context.Context, question string) iter.Seq2[string, error] {
	text := "You asked: “" + question + "”\n\n" +
		"I am not a real model, so I don't know. But while I talk, try to make me lose a word:\n\n" +
		"• Reload this page.\n" +
		"• Open it in a second tab, or in another browser.\n" +
		"• Turn off the network of the browser, and turn it on again.\n\n" +
		"Each of my words is an event in a topic that belongs to this answer. A page that opens starts with " +
		"the first of them. A page that reconnects continues after the last one that it has received. " +
		"With my last word the topic ends, peald closes the streams, and the pages stop asking. " +
		"A reload still shows the whole answer. That was all."
	return func(yield func(string, error) bool) {
		for word := range strings.SplitAfterSeq(text, " ") {
			select {
			case <-time.After(time.Duration(20+rand.IntN(120)) * time.Millisecond):
			case <-ctx.Done():
				yield("", ctx.Err())
				return
			}

			if !yield(word, nil) {
				return
			}
		}
	}
}
