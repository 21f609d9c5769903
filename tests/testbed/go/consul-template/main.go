// Renders templates with the real consul-template, as the Vault Agent does.
//
// Each line of standard input is a JSON object (see request); each line of standard output is the answer to it, in order.
// Only the network is left out: the responses of Vault are part of the request.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "unsafe" // For go:linkname.

	dep "github.com/hashicorp/consul-template/dependency"
	"github.com/hashicorp/consul-template/template"
	"github.com/hashicorp/vault/api"
)

type request struct {
	Template string `json:"template"`
	// MissingError is error_on_missing_key of the Vault Agent.
	MissingError bool `json:"missing_error"`
	// Secrets has the whole response of Vault by request: the path as in the template, then each argument after a newline.
	Secrets map[string]json.RawMessage `json:"secrets"`
	// Env replaces the environment that the function env sees.
	Env map[string]string `json:"env"`
	// Now is the time that the function timestamp sees, in RFC 3339.
	Now string `json:"now"`
}

// Either Output (base64 in JSON) or Error.
type answer struct {
	Output *[]byte `json:"output_base64,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// The clock of consul-template's own tests.
//
//go:linkname clock github.com/hashicorp/consul-template/template.now
var clock func() time.Time

func main() {
	log.SetOutput(io.Discard)
	dep.SetVaultLeaseRenewalThreshold(0.9) // The default of the Vault Agent; zero would renew every certificate at once.
	os.Clearenv()                          // A variable of the test process must not reach a template.
	directory, err := os.MkdirTemp("", "consul-template")
	if err != nil {
		fatal(err)
	}
	err = serve(filepath.Join(directory, "output"))
	_ = os.RemoveAll(directory)
	if err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func serve(destination string) error {
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var in request
		if err := json.Unmarshal(line, &in); err != nil {
			return fmt.Errorf("failed to parse a request: %w", err)
		}
		var out answer
		if output, err := render(&in, destination); err != nil {
			out.Error = err.Error()
		} else {
			out.Output = &output
		}
		encoded, err := json.Marshal(out)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(append(encoded, '\n')); err != nil {
			return err
		}
	}
}

// A panic ends the agent's process; here it is an error of this one template.
func render(in *request, destination string) (output []byte, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	now := time.Now().UTC()
	if in.Now != "" {
		if now, err = time.Parse(time.RFC3339, in.Now); err != nil {
			return nil, err
		}
	}
	clock = func() time.Time { return now }
	brain := template.NewBrain()
	for name, body := range in.Secrets {
		if err := remember(brain, name, body, destination); err != nil {
			return nil, fmt.Errorf("failed to read the response for %q: %w", name, err)
		}
	}
	environment := make([]string, 0, len(in.Env))
	for name, value := range in.Env {
		environment = append(environment, name+"="+value)
	}
	parsed, err := template.NewTemplate(&template.NewTemplateInput{
		Contents:      in.Template,
		ErrMissingKey: in.MissingError,
		Destination:   destination,
	})
	if err != nil {
		return nil, err
	}
	result, err := parsed.Execute(&template.ExecuteInput{Brain: brain, Env: environment})
	if err != nil {
		return nil, err
	}
	// The agent waits for these and writes nothing.
	if missing := result.Missing.List(); len(missing) > 0 {
		return nil, fmt.Errorf("missing dependency: %s", missing[0])
	}
	if result.Output == nil {
		return []byte{}, nil
	}
	return result.Output, nil
}

// remember stores a response for each function that can ask for it: secret, secrets and pkiCert.
func remember(brain *template.Brain, name string, body json.RawMessage, destination string) error {
	parts := strings.Split(name, "\n")
	path, arguments := parts[0], parts[1:]
	fields := make(map[string]any, len(arguments))
	for _, argument := range arguments {
		key, value, _ := strings.Cut(argument, "=")
		fields[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	// Decodes numbers as json.Number, like every response in Vault's client.
	parsed, err := api.ParseSecret(bytes.NewReader(body))
	if err != nil {
		return err
	}
	secret := transform(parsed)
	if len(arguments) > 0 {
		query, err := dep.NewVaultWriteQuery(path, fields)
		if err != nil {
			return err
		}
		brain.Remember(query, secret)
	} else {
		query, err := dep.NewVaultReadQuery(path)
		if err != nil {
			return err
		}
		brain.Remember(query, secret)
	}
	if keys, ok := secret.Data["keys"].([]any); ok && len(arguments) == 0 {
		if err := rememberList(brain, path, keys); err != nil {
			return err
		}
	}
	if _, ok := secret.Data["private_key"].(string); ok && secret.Data["certificate"] != nil {
		return rememberCertificate(brain, path, fields, secret, destination)
	}
	return nil
}

func rememberList(brain *template.Brain, path string, keys []any) error {
	query, err := dep.NewVaultListQuery(path)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(keys))
	for _, key := range keys {
		if name, ok := key.(string); ok {
			names = append(names, name)
		}
	}
	brain.Remember(query, names)
	return nil
}

// The query for a certificate parses the destination of the template first, if there is one. So its own parser is used.
func rememberCertificate(
	brain *template.Brain, path string, fields map[string]any, secret *dep.Secret, destination string,
) error {
	var text strings.Builder
	for _, name := range []string{"certificate", "private_key", "issuing_ca"} {
		if value, ok := secret.Data[name].(string); ok {
			text.WriteString(value + "\n")
		}
	}
	chain, _ := secret.Data["ca_chain"].([]any)
	for _, item := range chain {
		if value, ok := item.(string); ok {
			text.WriteString(value + "\n")
		}
	}
	if err := os.WriteFile(destination, []byte(text.String()), 0o600); err != nil {
		return err
	}
	query, err := dep.NewVaultPKIQuery(path, destination, fields)
	if err != nil {
		return err
	}
	certificate, _, err := query.Fetch(nil, nil)
	if err != nil {
		return err
	}
	brain.Remember(query, certificate)
	return nil
}

// transform does what consul-template's private function of that name does with the response of Vault's client.
func transform(theirs *api.Secret) *dep.Secret {
	ours := &dep.Secret{
		RequestID:     theirs.RequestID,
		LeaseID:       theirs.LeaseID,
		LeaseDuration: theirs.LeaseDuration,
		Renewable:     theirs.Renewable,
		Data:          theirs.Data,
		Warnings:      theirs.Warnings,
	}
	if theirs.Auth != nil {
		ours.Auth = &dep.SecretAuth{
			ClientToken:   theirs.Auth.ClientToken,
			Accessor:      theirs.Auth.Accessor,
			Policies:      theirs.Auth.Policies,
			Metadata:      theirs.Auth.Metadata,
			LeaseDuration: theirs.Auth.LeaseDuration,
			Renewable:     theirs.Auth.Renewable,
		}
	}
	if theirs.WrapInfo != nil {
		ours.WrapInfo = &dep.SecretWrapInfo{
			Token:           theirs.WrapInfo.Token,
			TTL:             theirs.WrapInfo.TTL,
			CreationTime:    theirs.WrapInfo.CreationTime,
			WrappedAccessor: theirs.WrapInfo.WrappedAccessor,
		}
	}
	return ours
}
