package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/peald/peald/internal/broker"
)

const (
	// systemUser is who a node is to its own server where it speaks for the
	// cluster. The server listens to nobody outside the process.
	systemUser = "system"
	// rollCall is what all servers answer with how their JetStream is.
	rollCall = "$SYS.REQ.SERVER.PING.JSZ"
	// namesEvery is how often the leader is asked for names at most.
	namesEvery = 10 * time.Second
	// rollCallFor is how long members have to say that they are there.
	rollCallFor = time.Second
	// heardWithin is how lately the leader has heard of a member that counts as
	// there; it hears of each every second.
	heardWithin = 5 * time.Second
	// removeFor is how long it may take until most members know that one is
	// removed.
	removeFor = 5 * time.Second
)

// What keeps a node from being removed.
var (
	// ErrNoSuchMember is of a name that no member has.
	ErrNoSuchMember = errors.New("no member of the cluster")
	// ErrNotRemovable is of a member that can't be removed, or not from here.
	ErrNotRemovable = errors.New("not to be removed")
)

// RemoveError says why a node was not removed. It wraps ErrNoSuchMember or
// ErrNotRemovable.
type RemoveError struct {
	// Reason is a sentence for the operator.
	Reason string
	kind   error
}

func (e *RemoveError) Error() string { return e.Reason }

// Unwrap is the kind of the error.
func (e *RemoveError) Unwrap() error { return e.kind }

// inside says who the connections from inside the process are to the server. It
// implements [server.Authentication].
type inside struct{ server *embeddedServer }

// Check implements [server.Authentication].
func (i inside) Check(c server.ClientAuthentication) bool {
	account := i.server.GlobalAccount()
	if c.GetOpts().Username == systemUser {
		account = i.server.SystemAccount()
	}
	c.RegisterUser(&server.User{Account: account})
	return true
}

// members are the nodes that the cluster counts, whether they are there or not,
// by their ids inside NATS, as this server has them; nil where it is alone.
func (s *embeddedServer) members() map[string]string {
	if s.alone {
		return nil
	}
	info, err := s.Jsz(nil)
	if err != nil || info.Meta == nil {
		return nil
	}
	names := map[string]string{"": s.Name()}
	for _, p := range info.Meta.Replicas {
		names[p.Peer] = memberName(p)
	}
	return names
}

// memberName is what a member is called: by its id where its name is not known,
// as it has not been there since the server started that is asked.
func memberName(p *server.PeerInfo) string {
	if strings.ContainsAny(p.Name, " ") { // a sentence that it is not known
		return p.Peer
	}
	return p.Name
}

// count notes which nodes the cluster counts.
func (n *Node) count(ctx context.Context) {
	if n.server == nil {
		return
	}
	members := n.server.members()
	if members == nil {
		return // it is alone, or its JetStream has stopped; what was known holds
	}
	var names []string
	for id, name := range members {
		if name == id {
			name = n.nameOf(ctx, id)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.counted = names
}

// nameOf is the name of a member that this node has not heard of: the cluster's
// leader may have. It is the member's id if not.
func (n *Node) nameOf(ctx context.Context, id string) string {
	if name, ok := n.memberNames[id]; ok {
		return name
	}
	if time.Since(n.askedNames) < namesEvery {
		return id
	}
	n.askedNames = time.Now()
	found, err := n.askLeader(ctx)
	if err != nil {
		n.log.Debug("the cluster's leader doesn't tell its members", "error", err)
		return id
	}
	for _, p := range found.Replicas {
		if name := memberName(p); name != p.Peer {
			if n.memberNames == nil {
				n.memberNames = make(map[string]string)
			}
			n.memberNames[p.Peer] = name
		}
	}
	return cmp.Or(n.memberNames[id], id)
}

// askLeader returns what the cluster's leader says of its members.
func (n *Node) askLeader(ctx context.Context) (*server.MetaClusterInfo, error) {
	conn, err := n.speakForCluster()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, rollCallFor)
	defer cancel()
	msg, err := conn.RequestWithContext(ctx, rollCall, []byte(`{"leader_only":true}`))
	if err != nil {
		return nil, fmt.Errorf("asking the leader for its members: %w", err)
	}
	var answer server.ServerAPIJszResponse
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, fmt.Errorf("asking the leader for its members: %w", err)
	}
	if answer.Data == nil || answer.Data.Meta == nil {
		return nil, errors.New("the leader has no members")
	}
	return answer.Data.Meta, nil
}

// speakForCluster connects to the node's own server as the cluster itself.
func (n *Node) speakForCluster() (*nats.Conn, error) {
	conn, err := nats.Connect("", nats.InProcessServer(n.server), nats.UserInfo(systemUser, ""), nats.Name(n.name+", for its cluster"), nats.NoReconnect())
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	return conn, nil
}

// Remove has the cluster no longer count a member that is gone for good: neither
// for what most members are, nor as a holder of the log, whose replica another
// node takes over. It returns who is left, in order of name.
//
// It returns a *[RemoveError] where that can't be done, and a
// *[broker.UnavailableError] while it can't be done for want of most members.
func (n *Node) Remove(ctx context.Context, name string) (left []string, err error) {
	switch {
	case n.server == nil:
		return nil, &RemoveError{"the daemon's cluster.mode is nats: its nodes are no members of anything, and one that is gone needs no removal; " +
			"a NATS server that is gone is removed by `nats server cluster peer-remove`", ErrNotRemovable}
	case n.server.alone:
		return nil, &RemoveError{"the daemon is of no other nodes' cluster: it has no cluster.peers", ErrNotRemovable}
	case name == n.name:
		return nil, &RemoveError{name + " is the node that was asked; end it, and ask another one", ErrNotRemovable}
	}
	conn, err := n.speakForCluster()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	found, err := callRoll(ctx, conn, name)
	if err != nil {
		return nil, err
	}
	switch {
	case found.heard, slices.Contains(found.present, name), slices.Contains(found.present, found.name):
		return nil, &RemoveError{name + " is there: end it first, and remove it if it is not to come back", ErrNotRemovable}
	case len(found.members) == 0:
		return nil, &broker.UnavailableError{Reason: "the cluster has no leader: most of its members have to be there to remove one"}
	case found.id == "":
		return nil, &RemoveError{fmt.Sprintf("%q is no member of the cluster; its members are %s", name, strings.Join(found.members, ", ")), ErrNoSuchMember}
	}
	if err := proposeRemoval(ctx, conn, found.id); err != nil {
		return nil, err
	}
	n.log.Info("removed a node from the cluster", "node", found.name)
	return slices.DeleteFunc(found.members, func(m string) bool { return m == found.name }), nil
}

// roll is what all answer when one of them is to be removed.
type roll struct {
	present  []string // who has answered
	members  []string // whom the leader counts; none where there is no leader
	name, id string   // the member's that is to be removed; empty for no member
	heard    bool     // whether the leader has heard of it lately
}

// callRoll asks all servers for themselves, and the leader for its members.
func callRoll(ctx context.Context, conn *nats.Conn, name string) (found roll, err error) {
	ctx, cancel := context.WithTimeout(ctx, rollCallFor)
	defer cancel()
	inbox := conn.NewInbox()
	answers, err := conn.SubscribeSync(inbox)
	if err != nil {
		return found, fmt.Errorf("asking all members: %w", err)
	}
	if err := conn.PublishRequest(rollCall, inbox, nil); err != nil {
		return found, fmt.Errorf("asking all members: %w", err)
	}
	for {
		msg, err := answers.NextMsgWithContext(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return found, nil // whoever is there has answered by now
		}
		if err != nil {
			return found, fmt.Errorf("asking all members: %w", err)
		}
		var answer server.ServerAPIJszResponse
		if err := json.Unmarshal(msg.Data, &answer); err != nil || answer.Server == nil {
			continue
		}
		found.present = append(found.present, answer.Server.Name)
		if answer.Data == nil || answer.Data.Meta == nil || answer.Data.Meta.Leader != answer.Server.Name {
			continue
		}
		found.members = []string{answer.Server.Name}
		for _, p := range answer.Data.Meta.Replicas {
			member := memberName(p)
			found.members = append(found.members, member)
			if member == name || p.Peer == name {
				found.name, found.id = member, p.Peer
				found.heard = !p.Offline && p.Active > 0 && p.Active < heardWithin
			}
		}
		slices.Sort(found.members)
	}
}

// proposeRemoval returns once most members know that one is removed.
func proposeRemoval(ctx context.Context, conn *nats.Conn, id string) error {
	ctx, cancel := context.WithTimeout(ctx, removeFor)
	defer cancel()
	request, err := json.Marshal(server.JSApiMetaServerRemoveRequest{Peer: id})
	if err != nil {
		return fmt.Errorf("removing a member: %w", err)
	}
	for {
		msg, err := conn.RequestWithContext(ctx, server.JSApiRemoveServer, request)
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
			return &broker.UnavailableError{Reason: "the cluster's leader has not answered in time; see whether the node is still among the cluster's, and try again"}
		}
		if err != nil {
			return fmt.Errorf("removing a member: %w", err)
		}
		var answer server.JSApiMetaServerRemoveResponse
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return fmt.Errorf("removing a member: %w", err)
		}
		if answer.Error == nil {
			return nil
		}
		// As when a node joins at the same time.
		if wait := answer.Error.ErrCode == uint16(server.JSClusterServerMemberChangeInflightErr); !wait || ctx.Err() != nil {
			return &broker.UnavailableError{Reason: "the cluster's leader did not remove the node: " + answer.Error.Description}
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}
