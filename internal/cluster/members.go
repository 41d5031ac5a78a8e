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
	// jszSubject is the subject for requests to all servers, which reply with the state
	// of their JetStream.
	jszSubject = "$SYS.REQ.SERVER.PING.JSZ"
	// namesInterval is the minimum time between requests to the leader for names.
	namesInterval = 10 * time.Second
	// surveyTimeout limits how long members may take to reply.
	surveyTimeout = time.Second
	// contactWithin is how long a member counts as running after its last contact with
	// the leader. Members contact the leader once a second.
	contactWithin = 5 * time.Second
	// removeTimeout limits how long a removal may take.
	removeTimeout = 5 * time.Second
)

// Reasons why a node can't be removed.
var (
	// ErrNoSuchMember means that no member has the given name.
	ErrNoSuchMember = errors.New("no such member of the cluster")
	// ErrNotRemovable means that the member can't be removed, or can't be removed by
	// this node.
	ErrNotRemovable = errors.New("member can't be removed")
)

// RemoveError is returned for a node that can't be removed. It wraps ErrNoSuchMember or
// ErrNotRemovable.
type RemoveError struct {
	// Reason explains the error to the operator.
	Reason string
	kind   error
}

func (e *RemoveError) Error() string { return e.Reason }

// Unwrap returns ErrNoSuchMember or ErrNotRemovable.
func (e *RemoveError) Unwrap() error { return e.kind }

// updateMembers updates the names of the cluster's members.
func (p *prober) updateMembers(ctx context.Context) {
	n := p.node
	if n.server == nil {
		return
	}
	members := n.server.members()
	if members == nil {
		return // keep the known names
	}
	var names []string
	for id, name := range members {
		if name == id {
			name = p.nameOf(ctx, id)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.clusterMembers = names
}

// nameOf returns the name of the member with the given id, whose name this node's
// server doesn't know. It asks the cluster's leader. It returns the id if the leader
// doesn't know the name either.
func (p *prober) nameOf(ctx context.Context, id string) string {
	if name, ok := p.memberNames[id]; ok {
		return name
	}
	if time.Since(p.namesAsked) < namesInterval {
		return id
	}
	p.namesAsked = time.Now()
	found, err := p.node.leaderInfo(ctx)
	if err != nil {
		p.node.log.Debug("cannot get member names from the leader", "error", err)
		return id
	}
	for _, peer := range found.Replicas {
		if name := memberName(peer); name != peer.Peer {
			if p.memberNames == nil {
				p.memberNames = make(map[string]string)
			}
			p.memberNames[peer.Peer] = name
		}
	}
	return cmp.Or(p.memberNames[id], id)
}

// leaderInfo requests the members from the cluster's leader.
func (n *Node) leaderInfo(ctx context.Context) (*server.MetaClusterInfo, error) {
	conn, err := n.connectAsSystem()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	msg, err := conn.RequestWithContext(ctx, jszSubject, []byte(`{"leader_only":true}`))
	if err != nil {
		return nil, fmt.Errorf("requesting members from the leader: %w", err)
	}
	var reply server.ServerAPIJszResponse
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return nil, fmt.Errorf("requesting members from the leader: %w", err)
	}
	if reply.Data == nil || reply.Data.Meta == nil {
		return nil, errors.New("the leader has no members")
	}
	return reply.Data.Meta, nil
}

// connectAsSystem connects to the system account of the node's own server.
func (n *Node) connectAsSystem() (*nats.Conn, error) {
	conn, err := nats.Connect("", nats.InProcessServer(n.server), nats.UserInfo(systemUser, ""), nats.Name(n.name+" (system)"), nats.NoReconnect())
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	return conn, nil
}

// Remove removes a member that is gone for good from the cluster. The member no
// longer counts towards the quorum, and another node takes over its replica of the
// event log. Remove returns the sorted names of the remaining members.
//
// Remove returns a *[RemoveError] if the node can't be removed, and a
// *[broker.UnavailableError] if the cluster has no quorum.
func (n *Node) Remove(ctx context.Context, name string) (left []string, err error) {
	switch {
	case n.server == nil:
		return nil, &RemoveError{"with cluster.mode nats, nodes aren't members of the cluster and needn't be removed; " +
			"use `nats server cluster peer-remove` for a NATS server that is gone", ErrNotRemovable}
	case n.server.standalone:
		return nil, &RemoveError{"the node is standalone: cluster.peers is empty", ErrNotRemovable}
	case name == n.name:
		return nil, &RemoveError{name + " is the node that received this request; stop it, and send the request to another one", ErrNotRemovable}
	}

	conn, err := n.connectAsSystem()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	found, err := surveyMembers(ctx, conn, name)
	if err != nil {
		return nil, err
	}
	switch {
	case found.contact, slices.Contains(found.running, name), slices.Contains(found.running, found.name):
		return nil, &RemoveError{name + " is running; stop it first", ErrNotRemovable}
	case len(found.members) == 0:
		return nil, &broker.UnavailableError{Reason: "the cluster has no leader: most members must be running to remove one"}
	case found.id == "":
		return nil, &RemoveError{fmt.Sprintf("%q is not a member of the cluster; its members are %s", name, strings.Join(found.members, ", ")), ErrNoSuchMember}
	}

	if err := proposeRemoval(ctx, conn, found.id); err != nil {
		return nil, err
	}
	n.log.Info("removed a node from the cluster", "node", found.name)
	return slices.DeleteFunc(found.members, func(m string) bool { return m == found.name }), nil
}

// survey summarizes the replies from all servers before one of them is removed.
type survey struct {
	running  []string // the servers that replied
	members  []string // according to the leader; empty if there is no leader
	name, id string   // of the member to remove; both are empty if there is no such member
	contact  bool     // whether the leader has recently been in contact with that member
}

// surveyMembers asks all servers for a reply. The leader's reply contains the members.
func surveyMembers(ctx context.Context, conn *nats.Conn, name string) (found survey, err error) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	inbox := conn.NewInbox()
	replies, err := conn.SubscribeSync(inbox)
	if err != nil {
		return found, fmt.Errorf("querying all members: %w", err)
	}
	if err := conn.PublishRequest(jszSubject, inbox, nil); err != nil {
		return found, fmt.Errorf("querying all members: %w", err)
	}

	for {
		msg, err := replies.NextMsgWithContext(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return found, nil // all running members have replied by now
		}
		if err != nil {
			return found, fmt.Errorf("querying all members: %w", err)
		}
		var reply server.ServerAPIJszResponse
		if err := json.Unmarshal(msg.Data, &reply); err != nil || reply.Server == nil {
			continue
		}
		found.running = append(found.running, reply.Server.Name)
		if reply.Data == nil || reply.Data.Meta == nil || reply.Data.Meta.Leader != reply.Server.Name {
			continue
		}

		found.members = []string{reply.Server.Name}
		for _, p := range reply.Data.Meta.Replicas {
			member := memberName(p)
			found.members = append(found.members, member)
			if member == name || p.Peer == name {
				found.name, found.id = member, p.Peer
				found.contact = !p.Offline && p.Active > 0 && p.Active < contactWithin
			}
		}
		slices.Sort(found.members)
	}
}

// proposeRemoval removes the member with the given id. It returns once a quorum has
// agreed.
func proposeRemoval(ctx context.Context, conn *nats.Conn, id string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	request, err := json.Marshal(server.JSApiMetaServerRemoveRequest{Peer: id})
	if err != nil {
		return fmt.Errorf("removing a member: %w", err)
	}

	for delays := newBackOff(); ; {
		msg, err := conn.RequestWithContext(ctx, server.JSApiRemoveServer, request)
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
			return &broker.UnavailableError{Reason: "the cluster's leader did not reply in time; check whether the node is still a member, and try again"}
		}
		if err != nil {
			return fmt.Errorf("removing a member: %w", err)
		}
		var reply server.JSApiMetaServerRemoveResponse
		if err := json.Unmarshal(msg.Data, &reply); err != nil {
			return fmt.Errorf("removing a member: %w", err)
		}
		if reply.Error == nil {
			return nil
		}
		// Another membership change may be in progress, such as a node joining.
		if busy := reply.Error.ErrCode == uint16(server.JSClusterServerMemberChangeInflightErr); !busy || ctx.Err() != nil {
			return &broker.UnavailableError{Reason: "the cluster's leader did not remove the node: " + reply.Error.Description}
		}
		select {
		case <-ctx.Done():
		case <-time.After(delays.NextBackOff()):
		}
	}
}
