// Package presence is what the daemons of a cluster know of each other's
// streams, and how one has all of them answer a call.
//
// # What is told
//
// A daemon announces itself once a second, and a quarter of a second after
// streams came or went, how many the users and topics have that these belong
// to. So each knows of all others how many streams a user has there: for that
// the limit of a user's streams holds for all together, and a message's
// recipients can be estimated. That costs memory for each user and topic of the
// cluster, on every daemon.
//
// Announcements are numbered. Whoever comes anew, or misses one, asks for all
// that a daemon holds, a page at a time, while announcements go on. Counts are
// absolute and all that a daemon sends is sent by one goroutine over one
// connection, whose order NATS keeps: so of two that contradict each other the
// one that arrives later is right, and no page has to be of the same moment as
// another.
//
// A daemon that has not been heard of for some seconds is lost, and its counts
// count no more. It is remembered for some minutes as one that is missing, and
// not longer than the cluster counts it among its members. Members that nothing
// is known of otherwise are told of as absent.
//
// # What is asked
//
// Lists, figures and what has to be exact is asked for when it is wanted, of
// all at once, in the words of the control plane: a question is the name of a
// call and its request, and an answer is the response of one daemon, which
// whoever asked merges. Who doesn't answer in time is named.
//
// Calls that go on telling, as a watch of connections does, are followed on
// each daemon, those included that come later. What they tell is numbered too,
// and acknowledged: a follower that can't keep up, or is gone, is not told more.
package presence
