package tlsrecord

import (
	"crypto/tls"
	"strings"
)

// Alert is the description of a TLS alert (RFC 8446 §6).
type Alert uint8

// Alerts that this package sends or treats specially (RFC 8446 §6).
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

// AlertError reports that the peer has sent something invalid. Send the alert to the
// peer, and then close the connection.
type AlertError struct {
	Alert  Alert
	Reason string // what was wrong; empty if the error has been returned before
}

func (e *AlertError) Error() string {
	if e.Reason == "" {
		return "tls: " + e.Alert.String()
	}

	return "tls: " + e.Alert.String() + ": " + e.Reason
}

// PeerAlertError reports that the peer has sent an error alert. Close the connection
// without sending an alert.
type PeerAlertError struct{ Alert Alert }

func (e *PeerAlertError) Error() string { return "tls: peer sent alert: " + e.Alert.String() }
