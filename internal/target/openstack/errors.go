package openstack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/gophercloud/gophercloud/v2"

	"herdbook/internal/artefact"
)

// damagedError says that the cloud has other bytes than were sent.
type damagedError struct{ text string }

// Error implements error.
func (e *damagedError) Error() string { return e.text + ": what it has is deleted" }

// transient tells whether the same may go well a moment later.
func transient(err error) bool {
	var damaged *damagedError
	if errors.As(err, &damaged) {
		return true
	}
	if answer, _, ok := response(err); ok {
		switch answer.Actual {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
			http.StatusGatewayTimeout, http.StatusNotFound, http.StatusGone: // the image was deleted by another
			return true
		}
		return false
	}
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var connection net.Error
	switch {
	case errors.Is(err, context.Canceled) || errors.As(err, &certificate):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	}
	return errors.As(err, &connection) // *url.Error is one, whatever it wraps
}

// response finds what a service answered, in an error that was wrapped by words of ours.
func response(err error) (answer gophercloud.ErrUnexpectedResponseCode, doing string, ok bool) {
	text := err.Error()
	shown := ""
	if unable := (*gophercloud.ErrUnableToReauthenticate)(nil); errors.As(err, &unable) {
		err, shown = unable.ErrReauth, unable.Error()
	} else if after := (*gophercloud.ErrErrorAfterReauthentication)(nil); errors.As(err, &after) {
		err, shown = after.ErrOriginal, after.Error()
	}
	if !errors.As(err, &answer) {
		return answer, "", false
	}
	if shown == "" {
		shown = answer.Error()
	}
	doing, _, _ = strings.Cut(text, shown)
	return answer, doing, true
}

// retryAfter is how long a service wants to be left alone; 0 if it does not say.
func retryAfter(err error) time.Duration {
	answer, _, ok := response(err)
	if !ok {
		return 0
	}
	return artefact.RetryAfter(answer.ResponseHeader.Get("Retry-After"), answer.ResponseHeader.Get("Date"))
}

// advice says what can be done about an answer.
var advice = map[int]string{
	http.StatusBadRequest:            "the cloud does not take what is asked of it",
	http.StatusUnauthorized:          "the cloud does not take the credentials: look at auth in clouds.yaml or at OS_…; a password may have been changed, an application credential may have expired",
	http.StatusForbidden:             `the credentials do not allow it: visibility = "public" needs an administrator, and others may need a role in the project`,
	http.StatusNotFound:              "it is not there: another build may have deleted it, or the catalogue has another address than the service",
	http.StatusConflict:              "something is in the way there, or in use",
	http.StatusRequestEntityTooLarge: "the image is larger than the cloud or the project's quota lets it be: delete older ones (keep = N), or have the quota raised",
	http.StatusServiceUnavailable:    "the service is not there for now, or has no room: try again later, nothing is lost",
}

// explain says in one line what was done, what a cloud answered, and what to do.
func explain(err error) error {
	answer, doing, ok := response(err)
	if !ok {
		return err
	}
	text := advice[answer.Actual]
	if text == "" {
		text = "the cloud cannot do it now"
	}
	return fmt.Errorf("%s%d, %s: %s", doing, answer.Actual, plain(http.StatusText(answer.Actual), string(answer.Body)), text)
}

var (
	markup = regexp.MustCompile(`(?s)<(?:head|style|script)\b.*?</(?:head|style|script)>|<[^>]*>`)
	spaces = regexp.MustCompile(`\s+`)
)

// maxWords bounds what is repeated of an answer, in bytes.
const maxWords = 300

// plain makes one line of an answer, of JSON or HTML or nothing; fallback if it is empty.
func plain(fallback, body string) string {
	var said map[string]struct {
		Message string `json:"message"`
	}
	if json.Unmarshal([]byte(body), &said) == nil {
		for _, one := range said {
			if one.Message != "" {
				body = one.Message
			}
		}
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(markup.ReplaceAllString(body, " "), "�"))
	if text = strings.TrimSpace(spaces.ReplaceAllString(text, " ")); text == "" {
		return fallback
	}
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return text
}
