// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rootless-kubernetes/rk/pkg/group"
)

// Condition is a state of the cluster to wait for, as a value. Its String
// names it for messages. The functions of this package make conditions.
type Condition interface {
	fmt.Stringer
	// sources are what the condition looks at.
	sources() []source
	// check returns nil if the condition is met, else why it is not.
	check(v *view) error
}

// WaitError says which conditions were not met when the time was up, and why;
// then it is the context's error too. Or it names the one that cannot be met any more.
type WaitError struct {
	Unmet []Unmet
	err   error // of the context, or the cause
}

// Unmet is a condition with the last reason why it was not met.
type Unmet struct {
	Condition string
	Cause     error
}

func (e *WaitError) Error() string {
	lines := make([]string, len(e.Unmet))
	for i, u := range e.Unmet {
		lines[i] = u.Condition + ": " + u.Cause.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the context's error and the causes.
func (e *WaitError) Unwrap() []error {
	errs := []error{e.err}
	for _, u := range e.Unmet {
		errs = append(errs, u.Cause)
	}
	return errs
}

// Wait returns as soon as all conditions are met at the same time. It lists
// and watches what they look at; a connection that breaks, or an API that
// does not serve yet, is tried again. Whenever the reasons for waiting change,
// report gets them in one line; it may be nil. When ctx ends first, or a
// condition cannot be met any more, the error is a *WaitError.
func (c *Client) Wait(ctx context.Context, report func(string), conds ...Condition) error {
	ctx, cancel := context.WithCancel(ctx)
	followers, wctx := group.WithContext(ctx)
	err := c.wait(wctx, followers, report, conds)
	cancel()
	if failed := followers.Wait(); failed != nil {
		return failed // a panic: followers go on until they are told to end
	}
	return err
}

func (c *Client) wait(ctx context.Context, followers *group.Group, report func(string), conds []Condition) error {
	v := &view{objects: map[source]map[string]metav1.Object{}, errs: map[source]error{}, changed: make(chan struct{}, 1)}
	for _, cond := range conds {
		for _, s := range cond.sources() {
			v.errs[s] = errNoAnswer
		}
	}
	for _, s := range slices.Collect(maps.Keys(v.errs)) { // before the first follower writes to it
		followers.Go(func() error {
			c.follow(ctx, s, v)
			return nil
		})
	}
	var reported string
	for {
		unmet := v.unmet(conds)
		if len(unmet) == 0 {
			return nil
		}
		if i := slices.IndexFunc(unmet, func(u Unmet) bool { return errors.As(u.Cause, new(*permanentError)) }); i >= 0 {
			return &WaitError{Unmet: unmet[i : i+1], err: unmet[i].Cause}
		}
		if line := summary(unmet); report != nil && line != reported {
			report(line)
			reported = line
		}
		select {
		case <-ctx.Done():
			return &WaitError{Unmet: v.unmet(conds), err: ctx.Err()}
		case <-v.changed:
		}
	}
}

// summary is one line for progress: the first reason, and how many there are.
func summary(unmet []Unmet) string {
	line := unmet[0].Condition + ": " + firstLine(unmet[0].Cause.Error())
	if n := len(unmet) - 1; n > 0 {
		line += fmt.Sprintf(" (and %d more)", n)
	}
	return line
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// source is something in the API that can be followed: a collection that is
// listed and watched, or an endpoint that is asked until it says yes.
type source struct {
	path string // of the collection or endpoint
	kind string // of the objects: one of lists; empty for an endpoint
}

// lists makes empty lists to decode into, by the kind of their items.
var lists = map[string]func() runtime.Object{
	kindNode:       newNodeList,
	kindPod:        newPodList,
	kindDeployment: newDeploymentList,
	kindDaemonSet:  newDaemonSetList,

	kindStatefulSet: newStatefulSetList,
	kindJob:         newJobList,
}

// view is what is known of the sources.
type view struct {
	mu      sync.Mutex
	objects map[source]map[string]metav1.Object // by name; absent until the first list
	errs    map[source]error                    // why a source is not followed at the moment
	changed chan struct{}                       // holds a token after a change
}

func (v *view) unmet(conds []Condition) []Unmet {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []Unmet
	for _, c := range conds {
		if err := c.check(v); err != nil {
			out = append(out, Unmet{Condition: c.String(), Cause: err})
		}
	}
	return out
}

// update changes the view and wakes the waiter.
func (v *view) update(f func()) {
	v.mu.Lock()
	f()
	v.mu.Unlock()
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// all returns the objects of a source in the order of their names, or why
// they are not known. The caller holds the lock, as check does.
func (v *view) all(s source) ([]metav1.Object, error) {
	objects, ok := v.objects[s]
	if !ok {
		return nil, v.errs[s]
	}
	out := make([]metav1.Object, 0, len(objects))
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		out = append(out, objects[name])
	}
	return out, nil
}

// get returns one object; errAbsent if it does not exist.
func (v *view) get(s source, name string) (metav1.Object, error) {
	objects, ok := v.objects[s]
	if !ok {
		return nil, v.errs[s]
	}
	o, ok := objects[name]
	if !ok {
		return nil, errAbsent
	}
	return o, nil
}

var (
	errAbsent   = errors.New("does not exist yet")
	errNoAnswer = errors.New("no answer from the API yet")
)

// follow keeps the view of s up to date until ctx ends.
func (c *Client) follow(ctx context.Context, s source, v *view) {
	// Every return of f is followed by another attempt after the retry interval.
	_ = retry(ctx, func(error) bool { return true }, func(ctx context.Context) error {
		var err error
		if s.kind == "" {
			if err = c.readyz(ctx); err == nil {
				v.update(func() { v.errs[s] = nil })
				<-ctx.Done()
			}
		} else {
			err = c.listAndWatch(ctx, s, v)
		}
		if err == nil {
			err = errWatchEnded
		}
		if ctx.Err() == nil {
			v.update(func() { v.errs[s] = err })
		}
		return err
	})
}

var errWatchEnded = errors.New("the watch ended")

// listAndWatch fills the view of s and follows changes until the watch ends.
func (c *Client) listAndWatch(ctx context.Context, s source, v *view) error {
	list := lists[s.kind]()
	lctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := c.get(lctx, s.path, list); err != nil {
		return err
	}
	objects := map[string]metav1.Object{}
	err := meta.EachListItem(list, func(o runtime.Object) error {
		m, err := meta.Accessor(o)
		if err == nil {
			objects[m.GetName()] = m
		}
		return err
	})
	if err != nil {
		return err
	}
	lm, err := meta.ListAccessor(list)
	if err != nil {
		return err
	}
	v.update(func() { v.objects[s], v.errs[s] = objects, nil })

	w, err := c.request(http.MethodGet, s.path).Param("watch", "true").Param("resourceVersion", lm.GetResourceVersion()).Watch(ctx)
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		switch e.Type {
		case watch.Added, watch.Modified, watch.Deleted:
			m, err := meta.Accessor(e.Object)
			if err != nil {
				return err
			}
			v.update(func() {
				if e.Type == watch.Deleted {
					delete(objects, m.GetName())
				} else {
					objects[m.GetName()] = m
				}
			})
		case watch.Error: // e.g. 410 Gone: list again
			return fmt.Errorf("watch: %v", e.Object)
		case watch.Bookmark:
		}
	}
	return errWatchEnded
}
