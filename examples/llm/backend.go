package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"log"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// backend publishes each answer of a model to a topic of its own. It keeps no answers
// itself: the daemon's history holds them.
type backend struct {
	model   func(ctx context.Context, question string) iter.Seq2[string, error]
	peald   pealv1.ControlServiceClient
	running sync.WaitGroup // answers that are being generated
}

// ask starts an answer and redirects to its page. Reloading that page doesn't ask
// again. The answer is generated until ctx is canceled, whether or not a page is open.
func (b *backend) ask(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	question := r.FormValue("question")
	if len(question) < 1 || len(question) > 2000 {
		http.Error(w, fmt.Sprintf("question is %d bytes long; want 1 to 2000", len(question)), http.StatusBadRequest)
		return
	}

	id := rand.Text()
	message := &pealv1.PublishRequest{Topic: "answers." + id, Event: "question", Data: question, IdempotencyKey: id}
	if err := b.publish(ctx, message); err != nil {
		http.Error(w, "publish the question: "+err.Error(), http.StatusBadGateway)
		return
	}

	b.running.Go(func() { b.answer(ctx, id, question) })
	http.Redirect(w, r, "/?answer="+id, http.StatusSeeOther)
}

// answer publishes the words of an answer as the model generates them, and then an
// event that ends the topic.
func (b *backend) answer(ctx context.Context, id, question string) {
	topic, end, n := "answers."+id, "complete", 0

	for word, err := range b.model(ctx, question) {
		if err == nil {
			n++
			key := fmt.Sprintf("%s-%d", id, n) // publishes the word once, even if a call is repeated
			err = b.publish(ctx, &pealv1.PublishRequest{Topic: topic, Event: "word", Data: word, IdempotencyKey: key}, grpc.WaitForReady(true))
		}

		if err != nil {
			log.Printf("answer %s: word %d: %v", id, n, err)

			end = "interrupted"
			break
		}
	}

	// Without an end, pages would wait forever.
	message := &pealv1.PublishRequest{Topic: topic, Event: "end", Data: end, Final: true, IdempotencyKey: id + "-end"}
	if err := b.publish(context.WithoutCancel(ctx), message, grpc.WaitForReady(true)); err != nil {
		log.Printf("answer %s: end: %v", id, err)
	}
}

func (b *backend) publish(ctx context.Context, message *pealv1.PublishRequest, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // the daemon may be restarting
	defer cancel()

	_, err := b.peald.Publish(ctx, message, options...)
	return err
}
