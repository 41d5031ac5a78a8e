// Command llm answers questions word by word, as a language model does, and publishes
// each word to the topic of the answer. Its page shows the answer with an EventSource.
package main

import (
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"net/url"
	"strings"
	"time"
)

//go:embed index.html
var page string

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "address of the page")
	rest := flag.String("rest", "http://127.0.0.1:9091", "URL of peald's REST listener")
	events := flag.String("events", "http://127.0.0.1:8080/events", "URL of peald's streams, for browsers")
	flag.Parse()
	log.Printf("open http://%s/", *addr)
	server := http.Server{Addr: *addr, Handler: newApp(*rest, *events, 80*time.Millisecond), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// newApp serves the page, and answers questions with the given pause between two words.
func newApp(rest, events string, pause time.Duration) http.Handler {
	index := template.Must(template.New("").Parse(page))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _ = index.Execute(w, events) })
	mux.HandleFunc("POST /ask", func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		go generate(rest, id, r.FormValue("question"), pause)
		http.Redirect(w, r, "/?answer="+id, http.StatusSeeOther)
	})
	return mux
}

// generate publishes an answer. It doesn't depend on the page: nobody has to watch.
func generate(rest, id, question string, pause time.Duration) {
	answer := words(question)
	for i, text := range answer {
		// Each word has its number, and a key, so that it can be sent again. The last one
		// ends the topic.
		data := encode(word{i, text})
		message := encode(message{data, i == len(answer)-1, fmt.Sprintf("%s-%d", id, i)})
		for !publish(rest+"/v1/topics/answers."+url.PathEscape(id)+"/messages", message) {
			time.Sleep(time.Second)
		}
		time.Sleep(pause)
	}
}

// word is the data of an event.
type word struct {
	N    int    `json:"n"`
	Word string `json:"word"`
}

// message is a message to a topic.
type message struct {
	Data           string `json:"data"`
	Final          bool   `json:"final"`
	IdempotencyKey string `json:"idempotencyKey"`
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers can always be encoded
	}
	return string(text)
}

func publish(target, message string) bool {
	reply, err := http.Post(target, "application/json", strings.NewReader(message)) //nolint:gosec,noctx // The operator names the host, and an answer has no end before its last word.
	if err != nil {
		log.Print(err)
		return false
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		log.Printf("%s: %s", target, reply.Status)
	}
	later := reply.StatusCode == http.StatusTooManyRequests || reply.StatusCode >= http.StatusInternalServerError
	return !later // other errors won't go away
}

// words returns the answer to a question. This is where the language model would be.
func words(question string) []string {
	text := "You asked: “" + question + "”\n\nThis answer comes from a generator that knows nothing, one word at a time. " +
		"Reload the page, open it in a second tab, or switch off your network for a moment: " +
		"the answer continues where it was, because every word is an event in the history of its topic. " +
		"The last word is marked as final, so the stream ends here, and the page doesn't ask again."
	return strings.SplitAfter(text, " ")
}
