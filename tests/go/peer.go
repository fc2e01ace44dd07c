// A program in another language that reads, verifies and uses certificates of the mesh with its standard library alone.
//
//	peer read FILE                                  what Go reads of a DER certificate, as JSON
//	peer verify ROOT MESH LEAF HOST UNIX            verifies LEAF for HOST at this time
//	peer serve CA CHAIN KEY CLIENT-HOST             a TLS server that asks for certificates; prints its port
//	peer ask CA CHAIN KEY HOST ADDRESS              one request to such a server
//
// CA, CHAIN and KEY are PEM files. Exit status: 0, or 1 with the reason on standard error.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	commands := map[string]struct {
		count int
		run   func([]string) error
	}{"read": {1, read}, "verify": {5, verify}, "serve": {4, serve}, "ask": {5, ask}}
	if len(words) == 0 || commands[words[0]].count != len(words)-1 {
		return errors.New("wrong usage: see the first lines of peer.go")
	}
	return commands[words[0]].run(words[1:])
}

// What a program can take from a certificate of a peer that it has verified.
type content struct {
	Subject     string   `json:"subject"`
	DNSNames    []string `json:"dns_names"`
	URIs        []string `json:"uris"`
	IsCA        bool     `json:"is_ca"`
	MaxPathLen  int      `json:"max_path_len"`
	Unhandled   int      `json:"unhandled_critical"`
	Fingerprint string   `json:"sha256"`
}

func contentOf(certificate *x509.Certificate) content {
	uris := []string{}
	for _, uri := range certificate.URIs {
		uris = append(uris, uri.String())
	}
	sum := sha256.Sum256(certificate.Raw)
	return content{
		certificate.Subject.CommonName, append([]string{}, certificate.DNSNames...), uris, certificate.IsCA,
		certificate.MaxPathLen, len(certificate.UnhandledCriticalExtensions), hex.EncodeToString(sum[:]),
	}
}

func load(path string) (*x509.Certificate, error) {
	der, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func read(words []string) error {
	certificate, err := load(words[0])
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(contentOf(certificate))
}

func verify(words []string) error {
	var chain [3]*x509.Certificate
	for i := range chain {
		certificate, err := load(words[i])
		if err != nil {
			return err
		}
		chain[i] = certificate
	}
	seconds, err := strconv.ParseInt(words[4], 10, 64)
	if err != nil {
		return err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[0])
	intermediates.AddCert(chain[1])
	// A leaf serves and asks.
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := chain[2].Verify(x509.VerifyOptions{
			DNSName: words[3], Roots: roots, Intermediates: intermediates,
			CurrentTime: time.Unix(seconds, 0), KeyUsages: []x509.ExtKeyUsage{usage},
		}); err != nil {
			return err
		}
	}
	return nil
}

// The same settings on both sides, all of them of Go's standard library.
func settings(ca, chain, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", ca)
	}
	pair, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
	}, nil
}

func serve(words []string) error {
	config, err := settings(words[0], words[1], words[2])
	if err != nil {
		return err
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.SessionTicketsDisabled = true
	// A server checks no host name by itself; a client of the mesh has one all the same.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return state.PeerCertificates[0].VerifyHostname(words[3])
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	handler := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(answer).Encode(contentOf(request.TLS.PeerCertificates[0]))
	})
	return http.Serve(tls.NewListener(listener, config), handler)
}

func ask(words []string) error {
	config, err := settings(words[0], words[1], words[2])
	if err != nil {
		return err
	}
	config.ServerName = words[3]
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: 30 * time.Second}
	answer, err := client.Get("https://" + words[4] + "/")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.TLS.Version != tls.VersionTLS13 {
		return errors.New("not TLS 1.3")
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
