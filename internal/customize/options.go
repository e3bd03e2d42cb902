package customize

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/op"
)

// single is an option that becomes an operation with its whole value.
func single(make func(value string) op.Operation) func(*Options, string) error {
	return func(o *Options, value string) error { return o.push(make(value)) }
}

// pair is an option whose value has two parts with a colon between them.
func pair(make func(first, second string) op.Operation) func(*Options, string) error {
	return func(o *Options, value string) error {
		first, second, ok := strings.Cut(value, ":")
		if !ok {
			return fmt.Errorf("%q has no colon", value)
		}
		return o.push(make(first, second))
	}
}

func nothing(*Options, string) error { return nil }

func chown(o *Options, value string) error {
	parts := strings.SplitN(value, ":", 3)
	if len(parts) != 3 {
		return fmt.Errorf("%q is not of the form OWNER:GROUP:PATH", value)
	}
	return o.push(&op.Chown{Owner: parts[0], Group: parts[1], Paths: []string{parts[2]}})
}

func link(o *Options, value string) error {
	parts := strings.Split(value, ":")
	if len(parts) < 2 {
		return fmt.Errorf("%q is not of the form TARGET:LINK", value)
	}
	return o.push(&op.Link{Target: parts[0], Paths: parts[1:]})
}

// local takes apart the value of an option that brings something of the host, and
// returns the name that it has there, too.
func local(value string) (source, destination, name string, err error) {
	source, destination, ok := strings.Cut(value, ":")
	if !ok || source == "" {
		return "", "", "", fmt.Errorf("%q is not of the form FILE:PATH", value)
	}
	switch name = path.Base(source); name {
	case "/", ".", "..":
		return "", "", "", fmt.Errorf("%q has no name that it could have in the guest", source)
	}
	return source, destination, name, nil
}

func copyIn(o *Options, value string) error {
	source, destination, name, err := local(value)
	if err != nil {
		return err
	}
	return o.upload(source, func(payload string) op.Operation {
		return &op.Copy{Source: source, Destination: path.Join(destination, name), Payload: payload}
	})
}

func upload(o *Options, value string) error {
	source, destination, name, err := local(value)
	if err != nil {
		return err
	}
	if strings.HasSuffix(destination, "/") {
		destination += name
	}
	return o.upload(source, func(payload string) op.Operation {
		return &op.Copy{Source: source, Destination: destination, Name: name, Payload: payload}
	})
}

func tarIn(o *Options, value string) error {
	source, destination, _, err := local(value)
	if err != nil {
		return err
	}
	return o.upload(source, func(payload string) op.Operation {
		return &op.TarIn{Source: source, Destination: destination, Payload: payload}
	})
}

// read reads a text of the host.
func (o *Options) read(name string) (string, error) {
	if o.Host.ReadFile == nil {
		return "", errors.New("no file of the host can be read here")
	}
	text, err := o.Host.ReadFile(name)
	return string(text), err
}

func run(o *Options, name string) error {
	script, err := o.read(name)
	if err != nil {
		return err
	}
	return o.push(&op.Run{Script: script})
}

func firstbootScript(o *Options, name string) error {
	script, err := o.read(name)
	if err != nil {
		return err
	}
	return o.push(&op.Firstboot{Name: firstbootName(path.Base(name)), Script: script})
}

var unnameable = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// maxName bounds the name of a script for the first boot, in bytes.
const maxName = 60

// firstbootName makes a name of a script's name or of a command.
func firstbootName(text string) string {
	name := strings.TrimLeft(unnameable.ReplaceAllString(text, "-"), "-._")
	if len(name) > maxName {
		name = name[:maxName]
	}
	if name == "" {
		return "script"
	}
	return name
}

func relabelExclude(o *Options, dir string) error {
	more := op.Relabel{Exclude: []string{dir}}
	if err := check(&more); err != nil {
		return err
	}
	o.relabel.Exclude = append(o.relabel.Exclude, dir)
	return nil
}

func passwordCrypto(o *Options, method string) error {
	if !slices.Contains(op.PasswordCryptos, method) {
		return fmt.Errorf("there is no %q, but %s", method, strings.Join(op.PasswordCryptos, ", "))
	}
	o.crypto = method
	return nil
}

// password keeps a password for the end. Its selector is that of virt-builder.
func password(o *Options, value string) error {
	user, selector, ok := strings.Cut(value, ":")
	if !ok {
		return errors.New("it is not of the form USER:SELECTOR") // without the value, which may be a secret
	}
	for _, p := range o.passwords {
		if p.User == user {
			return fmt.Errorf("the password of %s is set twice", user)
		}
	}
	p := &op.Password{User: user}
	if rest, locked := strings.CutPrefix(selector, "locked"); locked && (rest == "" || rest[0] == ':') {
		p.Locked = true
		if selector = strings.TrimPrefix(rest, ":"); selector == "" {
			selector = "disabled"
		}
	}
	if err := o.choose(p, selector); err != nil {
		return err
	}
	if err := check(p); err != nil {
		return err
	}
	o.passwords = append(o.passwords, p)
	return nil
}

// choose sets what a selector says. A password has a name, and so is blotted out
// of whatever is printed.
func (o *Options) choose(p *op.Password, selector string) error {
	kind, argument, given := strings.Cut(selector, ":")
	value := ""
	switch {
	case kind == "disabled" && !given:
		p.Disabled = true
		return nil
	case kind == "random" && !given:
		if o.Host.Password == nil {
			return errors.New("no random password can be made here")
		}
		made, err := o.Host.Password()
		if err != nil {
			return fmt.Errorf("make a random password: %w", err)
		}
		value = made
		o.generated = append(o.generated, Generated{p.User, made})
	case kind == "password" && given:
		value = argument
	case kind == "file" && given:
		text, err := o.read(argument)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(text, "\n")
		value = strings.TrimSuffix(first, "\r")
	default:
		return errors.New("there is no such selector: file:FILENAME, password:PASSWORD, random, disabled, locked, or locked: before one of them")
	}
	if value == "" {
		return errors.New("the password is empty: disabled, or locked, is what you want, or a run-command that says so")
	}
	p.Password = op.Secret{Value: value, Name: "password of " + p.User}
	return nil
}

// sshInject adds public keys: lines of a file, one that is given, or the user's.
func sshInject(o *Options, value string) error {
	user, selector, _ := strings.Cut(value, ":")
	kind, argument, given := strings.Cut(selector, ":")
	text := ""
	var err error
	switch {
	case selector == "":
		if o.Host.PublicKey == nil {
			return errors.New("no key of yours can be read here")
		}
		text, err = o.Host.PublicKey()
	case kind == "file" && given:
		text, err = o.read(argument)
	case kind == "string" && given:
		text = argument
	default:
		return fmt.Errorf("there is no selector %q, but file:FILENAME and string:KEY", selector)
	}
	if err != nil {
		return err
	}
	var keys []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	return o.push(&op.SSHKey{User: user, Keys: keys})
}
