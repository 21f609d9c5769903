// Webapp is the demo application: it reads files below /etc/sensitive and knows nothing of Vault or Kubernetes.
//
// On a small web page and in its log it tells which generation of the files it sees, never what is in them. It is written
// in Go, with nothing but the standard library, to show that an application needs no part of keyferry and no language of ours.
package main

import (
	"cmp"
	"context"
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

// How often the application looks whether its files changed. One readlink(2) of memory: a human does not wait, a CPU does not notice.
const look = 250 * time.Millisecond

//go:embed page.html
var page string

// File is one file as the application sees it.
type File struct {
	Name     string `json:"name"`
	Mode     string `json:"mode"`
	Readable bool   `json:"readable"`
}

// Seen is what the application tells: no value, no length, no digest.
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

// Seen gives a copy of what was seen last.
func (w *Watcher) Seen() Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// Look reads the directory again if another generation is there, and logs the change.
func (w *Watcher) Look(now time.Time) {
	// The name of the directory to which ..data leads is the generation: the whole set changes with this one link.
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

// Files opens each file once, as an application does at its start, and forgets what is in it.
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
