package tlsrecord

import (
	"crypto/tls"
	"strings"
)

// Alert is the description of an alert (RFC 8446 §6).
type Alert uint8

// These are the alerts that this package sends or treats specially (RFC 8446 §6).
const (
	AlertCloseNotify       Alert = 0
	AlertUnexpectedMessage Alert = 10
	AlertBadRecordMAC      Alert = 20
	AlertRecordOverflow    Alert = 22
	AlertIllegalParameter  Alert = 47
	AlertDecodeError       Alert = 50
	AlertProtocolVersion   Alert = 70
	AlertInternalError     Alert = 80
	AlertUserCanceled      Alert = 90
)

// String returns the name of the alert, such as "bad record MAC".
func (a Alert) String() string { return strings.TrimPrefix(tls.AlertError(a).Error(), "tls: ") }

// AlertError is an error in what the peer sent. The connection must be closed after
// the alert has been sent to the peer.
type AlertError struct {
	Alert  Alert
	Reason string // what was wrong; empty if the error was returned before
}

func (e *AlertError) Error() string {
	if e.Reason == "" {
		return "tls: " + e.Alert.String()
	}

	return "tls: " + e.Alert.String() + ": " + e.Reason
}

// PeerAlertError is an alert that the peer sent because of an error. The connection
// must be closed without sending an alert.
type PeerAlertError struct{ Alert Alert }

func (e *PeerAlertError) Error() string { return "tls: peer sent alert: " + e.Alert.String() }
