package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// publishFlags holds the options of the publish command.
type publishFlags struct {
	messageFlags

	topics  []string
	exclude string
	final   bool
	batch   string
}

func newPublish(s *session) *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish [TOPIC] DATA",
		Short: "Send an event to all subscribers of topics, or many messages from a file",
		Long: `Send an event to all streams that subscribe to a topic, by name or by a matching
pattern. The browser receives DATA unchanged in MessageEvent.data. If DATA is -,
it is read from standard input. With --topic, which can be repeated, a stream
that subscribes to several of the topics receives the event once.

With --batch, publish reads messages from a file, or from standard input if FILE
is -. Each line is a message in JSON with the fields of POST /v1/messages: an
audience ("topic", "topics", "user_id" or "everyone"), "data" and any others. An
invalid line is reported with its number, the others are published, and the exit
status is 1. With --output json, the result of each line is a line of JSON.`,
		Example: `  pealctl publish orders.new '{"order":7}'
  pealctl publish prices.eur --retain --ttl 30s 1.0842
  pealctl publish answers.42 --final 'That is all.'
  pealctl publish --topic room.7 --topic room.8 --exclude-user alice 'Hello'
  echo '{"topic": "orders.new", "data": "7"}' | pealctl publish --batch -`,
		Args: f.checkArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.batch != "" {
				return s.publishLines(cmd.Context(), f.batch)
			}
			return s.publishToTopics(cmd.Context(), &f, args)
		},
	}

	f.add(cmd, "topic")
	flags := cmd.Flags()
	flags.BoolVar(&f.final, "final", false, "end the topics after the event, until another one is published")
	flags.StringArrayVar(&f.topics, "topic", nil, "send the event to this `topic`; can be repeated")
	addExcludeUser(flags, &f.exclude)
	flags.Func("batch", "publish the messages in this `file`, one line of JSON each; - for standard input", func(value string) error {
		if value == "" {
			return errors.New("empty file name; want a file, or - for standard input")
		}
		f.batch = value
		return nil
	})
	return cmd
}

// addExcludeUser defines the flag --exclude-user.
func addExcludeUser(flags *pflag.FlagSet, user *string) {
	flags.Func("exclude-user", "don't send the event to the streams of this `user`", notEmpty("user", user))
}

// checkArguments requires the arguments that the flags call for.
func (f *publishFlags) checkArguments(cmd *cobra.Command, args []string) error {
	switch {
	case f.batch != "":
		var other error
		cmd.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) {
			if flag.Changed && flag.Name != "batch" && other == nil {
				other = fmt.Errorf("--%s can't be combined with --batch; set it in the lines of the file", flag.Name)
			}
		})
		if other != nil {
			return other
		}
		return arguments()(cmd, args)
	case len(f.topics) > 0 && len(args) < 2:
		return arguments("DATA")(cmd, args)
	default:
		return arguments("TOPIC", "DATA")(cmd, args)
	}
}

// publishToTopics publishes one message. The last argument is the data. If there is
// another, it is the first topic.
func (s *session) publishToTopics(ctx context.Context, f *publishFlags, args []string) error {
	data := args[len(args)-1]
	topics := slices.Concat(args[:len(args)-1], f.topics)
	for i, topic := range topics {
		name := "--topic"
		if i < len(args)-1 {
			name = "TOPIC"
		}
		if topic == "" { // the daemon would publish to the others
			return fmt.Errorf("%s is empty; want a topic", name)
		}
		if err := checkUTF8(name, topic); err != nil {
			return err
		}
	}
	if err := checkUTF8("--exclude-user", f.exclude); err != nil {
		return err
	}

	return s.publish(ctx, &f.messageFlags, data, func(ctx context.Context, c pealv1.ControlServiceClient, data string) (reply, error) {
		return c.Publish(ctx, &pealv1.PublishRequest{
			Topic: topics[0], Topics: topics[1:], ExcludeUserId: f.exclude,
			Data: data, Event: f.event, IdempotencyKey: f.idempotencyKey, ConflateKey: f.conflateKey, Ttl: f.ttl.value,
			Retain: f.retain, Final: f.final,
		})
	})
}
