package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// shop makes up the events of a small bell shop.
type shop struct{ random *rand.Rand }

// notice is the data of most events.
type notice struct {
	Kind   string `json:"kind"`
	Title  string `json:"title"`
	Text   string `json:"text"`
	Detail string `json:"detail,omitempty"`
}

func newNotice(kind, title, text, detail string) notice {
	return notice{Kind: kind, Title: title, Text: text, Detail: detail}
}

// pick returns one of choices at random.
func pick[T any](s shop, choices ...T) T { return choices[s.random.IntN(len(choices))] }

func (s shop) product() string {
	return pick(s, "Brass hand bell", "Desk chime", "Ship’s bell", "Bicycle bell", "Sleigh bells", "Temple gong",
		"Cowbell, large", "Wind chime “Fjord”", "Doorbell, 1920s", "Glockenspiel", "Tuning fork A4", "Porcelain bell")
}

func (s shop) city() string {
	return pick(s, "Lisbon", "Kraków", "Montréal", "Ōsaka", "Zürich", "Nairobi", "Reykjavík", "São Paulo",
		"Wellington", "Málaga", "Ghent", "Tromsø")
}

func (s shop) price() string {
	return fmt.Sprintf("€ %d.%02d", 9+s.random.IntN(120), pick(s, 0, 50, 90, 99))
}

// One event in inPlainText isn't JSON, since data may be any text with any number
// of lines.
const inPlainText = 9

// news returns the data of an event for everyone.
func (s shop) news() (string, error) {
	if s.random.IntN(inPlainText) == 0 {
		return pick(s,
			"From the tower:\nhalf past, and all is well.",
			"Today in the workshop:\n  casting at 11:00\n  tuning at 15:00",
			"Bells ring on the hour.\nEvents ring when they happen.",
			"Good morning, bom dia, dzień dobry, おはよう!",
		), nil
	}
	return pick(s, s.order, s.stock, s.review, s.visitors, s.release, s.courier, s.offer)().encode()
}

func (s shop) order() notice {
	return newNotice("order", "New order", fmt.Sprintf("%d × %s, to %s", 1+s.random.IntN(4), s.product(), s.city()), s.price())
}

func (s shop) stock() notice {
	if s.random.IntN(3) == 0 {
		return newNotice("stock", "Back in stock", s.product(), fmt.Sprintf("%d pieces", 12+s.random.IntN(60)))
	}
	return newNotice("stock", "Nearly gone", s.product(), fmt.Sprintf("%d left", 1+s.random.IntN(5)))
}

func (s shop) review() notice {
	const most = 5
	stars := most - s.random.IntN(2)
	return newNotice(
		"review", s.product(),
		pick(s, "“Clear as a mountain morning.”", "“The neighbours know now, too.”", "“Arrived in tune.”",
			"“Smaller than I thought, louder than I thought.”", "“My cat disagrees. I love it.”"),
		strings.Repeat("★", stars)+strings.Repeat("☆", most-stars),
	)
}

func (s shop) visitors() notice {
	n := 180 + s.random.IntN(240)
	return newNotice("visitors", "In the shop right now", fmt.Sprintf("%d visitors, most of them looking at %s", n, pick(s, "chimes", "hand bells", "gongs")), fmt.Sprintf("%+d %%", s.random.IntN(19)-6))
}

func (s shop) release() notice {
	return newNotice(
		"release", pick(s, "checkout", "search", "catalogue", "invoices")+fmt.Sprintf(" 2.%d.%d is live", s.random.IntN(30), s.random.IntN(9)),
		pick(s, "Rolled out to all regions", "Canary looks healthy", "No errors in the first minutes"),
		fmt.Sprintf("%d s", 20+s.random.IntN(70)),
	)
}

func (s shop) courier() notice {
	return newNotice("courier", "Courier left for "+s.city(), fmt.Sprintf("%d parcels on board", 2+s.random.IntN(30)), fmt.Sprintf("%02d:%02d", 8+s.random.IntN(10), 5*s.random.IntN(12)))
}

func (s shop) offer() notice {
	return newNotice("offer", "Offer of the hour", s.product()+" with free engraving", fmt.Sprintf("−%d %%", 5*(1+s.random.IntN(5))))
}

// notice returns the data of an event for one user.
func (s shop) notice(user string) (string, error) {
	return pick(s, s.parcel, s.listed, s.answer, s.points, s.invoice)(user).encode()
}

func (s shop) parcel(user string) notice {
	return newNotice("parcel", "Your parcel is close, "+user, s.product()+", out for delivery", fmt.Sprintf("%d stops", 2+s.random.IntN(9)))
}

func (s shop) listed(string) notice {
	return newNotice("price", "On your list, now cheaper", s.product(), s.price())
}

func (s shop) answer(user string) notice {
	return newNotice(
		"message", pick(s, "Mara", "Tomás", "Ines", "Björn")+" from the workshop",
		pick(s, "Yes, "+user+", we can tune it down a semitone.", "Your engraving is ready, "+user+". Shall we ship it?",
			"Good choice, "+user+": that one sings.", "We found the clapper you asked for, "+user+"."),
		"",
	)
}

func (s shop) points(string) notice {
	return newNotice("points", "Points for your last order", "They count towards a bell of your own.", fmt.Sprintf("+%d", 5*(1+s.random.IntN(20))))
}

func (s shop) invoice(string) notice {
	return newNotice("invoice", "Payment received", fmt.Sprintf("Invoice %d is settled. Thank you!", 20000+s.random.IntN(9999)), s.price())
}

// topic returns one of the topics that the shop publishes to.
func (s shop) topic() string {
	kind := pick(s, "bells", "gongs", "chimes")

	return pick(s, "prices."+kind, "prices."+kind, "stock."+kind, "chat.workshop")
}

// update returns the data of an event for a topic.
func (s shop) update(topic string) (string, error) {
	n := s.chat()

	switch family, _, _ := strings.Cut(topic, "."); family {
	case "prices":
		n = newNotice("price", s.product(), pick(s, "New price", "Price of the day", "Price adjusted"), s.price())
	case "stock":
		n = s.stock()
	}

	return n.encode()
}

func (s shop) chat() notice {
	return newNotice(
		"chat", pick(s, "Mara", "Tomás", "Ines", "Björn"),
		pick(s, "Does the temple gong ship to Ōsaka?", "Who has the tuning fork?", "The furnace is up to temperature.",
			"Lunch at half past twelve?", "That last casting rings beautifully."),
		"",
	)
}

func (n notice) encode() (string, error) {
	data, err := json.Marshal(n)
	if err != nil {
		return "", fmt.Errorf("encoding demo data: %w", err)
	}
	return string(data), nil
}
