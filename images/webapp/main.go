// Webapp is the demo application: it reads files below /etc/sensitive and contains no client of Vault or Kubernetes.
//
// A small web page and the log show which generation of the files it sees, never their content. With WEBAPP_TLS_LISTEN it also
// serves HTTPS with tls.crt and tls.key of these files. It is written in Go, with the standard library only: an application needs
// no part of keyferry.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How often the application checks whether its files have changed. One readlink(2) in memory costs almost no CPU.
const look = 250 * time.Millisecond

//go:embed page.html
var page string

// File is one file as the application sees it.
type File struct {
	Name     string `json:"name"`
	Mode     string `json:"mode"`
	Readable bool   `json:"readable"`
}

// Seen is what the application shows: no value, no length, no digest.
type Seen struct {
	Directory  string    `json:"directory"`
	Generation string    `json:"generation"`
	Since      time.Time `json:"since"`
	Changes    int       `json:"changes"`
	Files      []File    `json:"files"`
	Problem    string    `json:"problem,omitempty"`
}

// Watcher remembers the newest generation.
type Watcher struct {
	directory string
	mu        sync.Mutex
	seen      Seen
}

// Seen returns a copy of the newest findings.
func (w *Watcher) Seen() Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// Look reads the directory again if another generation is there, and logs the change.
func (w *Watcher) Look(now time.Time) {
	// The directory to which ..data points is the generation: the whole set changes with this link.
	generation, err := os.Readlink(filepath.Join(w.directory, "..data"))
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.seen.Since.IsZero()
	if !first && generation == w.seen.Generation && problem == w.seen.Problem {
		return
	}
	changes := w.seen.Changes
	if !first {
		changes++
	}
	w.seen = Seen{w.directory, generation, now, changes, files(w.directory), problem}
	if problem != "" {
		slog.Error("failed to look at the files", "error", problem)
		return
	}
	names := make([]string, 0, len(w.seen.Files))
	for _, file := range w.seen.Files {
		names = append(names, file.Name)
	}
	slog.Info("files", "generation", generation, "changes", changes, "names", strings.Join(names, " "))
}

// files opens each file once, as an application does at its start, and discards the content.
func files(directory string) []File {
	found := []File{}
	_ = filepath.WalkDir(filepath.Join(directory, "..data")+"/", func(path string, entry os.DirEntry, err error) error {
		// Names with two dots are keyferry's own.
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), "..") {
			return nil
		}
		name, _ := filepath.Rel(filepath.Join(directory, "..data"), path)
		file := File{Name: name, Mode: "?"}
		if info, err := os.Stat(filepath.Join(directory, name)); err == nil {
			file.Mode = info.Mode().Perm().String()
		}
		_, err = os.ReadFile(filepath.Join(directory, name))
		file.Readable = err == nil
		found = append(found, file)
		return nil
	})
	slices.SortFunc(found, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

func routes(w *Watcher) *http.ServeMux {
	shown := template.Must(template.New("page").Parse(page))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = shown.Execute(answer, w.Seen())
	})
	mux.HandleFunc("GET /generation", func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(answer).Encode(w.Seen())
	})
	mux.HandleFunc("GET /healthz", func(answer http.ResponseWriter, _ *http.Request) {
		if problem := w.Seen().Problem; problem != "" {
			http.Error(answer, problem, http.StatusServiceUnavailable)
		}
	})
	return mux
}

// certificate loads the certificate and key of the visible set, so that each new connection uses the newest ones.
func certificate(directory string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		var failed error
		// The next set can replace this one between two reads.
		for range 3 {
			// Resolve the link once: certificate and key must be from the same set.
			set, err := filepath.EvalSymlinks(filepath.Join(directory, "..data"))
			if err != nil {
				return nil, err
			}
			pair, err := tls.LoadX509KeyPair(filepath.Join(set, "tls.crt"), filepath.Join(set, "tls.key"))
			if err == nil {
				return &pair, nil
			}
			failed = err
		}
		return nil, failed
	}
}

func main() {
	// As PID 1 a process must handle SIGTERM itself: the kernel's default does not apply.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	watcher := &Watcher{directory: cmp.Or(os.Getenv("WEBAPP_DIRECTORY"), "/etc/sensitive")}
	watcher.Look(time.Now())
	go func() {
		for now := range time.Tick(look) {
			watcher.Look(now)
		}
	}()
	server := &http.Server{
		Addr:              cmp.Or(os.Getenv("WEBAPP_LISTEN"), ":8080"),
		Handler:           routes(watcher),
		ReadHeaderTimeout: 5 * time.Second,
	}
	if address := os.Getenv("WEBAPP_TLS_LISTEN"); address != "" {
		secure := &http.Server{
			Addr:              address,
			Handler:           server.Handler,
			ReadHeaderTimeout: server.ReadHeaderTimeout,
			TLSConfig:         &tls.Config{GetCertificate: certificate(watcher.directory)},
		}
		go func() {
			slog.Info("listening with TLS", "address", address)
			if err := secure.ListenAndServeTLS("", ""); err != nil {
				slog.Error("failed to serve with TLS", "error", err)
				os.Exit(1)
			}
		}()
	}
	go func() {
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = server.Shutdown(bound)
	}()
	slog.Info("listening", "address", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		slog.Error("failed to serve", "error", err)
		os.Exit(1)
	}
}
