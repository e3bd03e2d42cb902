package web

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"herdbook/internal/peer"
)

var screenshots = flag.String("screenshots", "", "directory to write pictures of every page to")

// tab is a tab of a real browser, at a server that shows a repository.
type tab struct {
	testing.TB
	ctx context.Context
	at  string // address of the server

	mu       sync.Mutex
	problems []string // what the browser complained of
}

const (
	program = "chromium-headless-shell"
	// foreign is a name of the server's that the browser does not take for its own
	// host, so that its pages are no secure context.
	foreign = "images.example"
)

// newTab starts a browser, which ends with the test.
func newTab(t testing.TB, source Source) *tab {
	t.Helper()
	peer.NeedTool(t, program)
	server := httptest.NewServer(handler(t, source, ""))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.Flag("host-resolver-rules", "MAP "+foreign+" 127.0.0.1"))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{TB: t, ctx: ctx, at: server.URL}
	peer.Must(t, chromedp.Listen(ctx, func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			b.problems = append(b.problems, ev.Entry.Text)
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, ev.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			b.problems = append(b.problems, string(ev.Type))
		}
	}))
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	peer.Must(b, chromedp.Do(b.ctx, steps...))
}

func (b *tab) open(target string) {
	b.Helper()
	b.do(chromedp.Navigate(b.at + target))
}

// is holds a script's value on the page against what it should be.
func is[T comparable](b *tab, script string, want T) {
	b.Helper()
	got, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script))
	if err != nil || got != want {
		b.Errorf("%s is %v, want %v: %v", script, got, want, err)
	}
}

// emulate has the browser be on a telephone or a desktop, or print.
func (b *tab) emulate(width int64, scheme, media string) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, 800))
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Media: media, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	peer.Must(b, err)
}

// scripts switches the page's own scripts; those of the test run all the same.
func (b *tab) scripts(on bool) {
	b.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
	peer.Must(b, err)
}

// quiet fails if the browser has complained, but for what is expected.
func (b *tab) quiet(of string, expected ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		if slices.ContainsFunc(expected, func(e string) bool { return strings.Contains(p, e) }) {
			continue
		}
		b.Errorf("%s: the browser says %s", of, p)
	}
	b.problems = nil
}

// submit sends a form off and waits for the page that comes.
func (b *tab) submit(form, field, text string) {
	b.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.Steps(
		chromedp.SetValue(chromedp.CSS(form+" "+field), text), chromedp.Click(chromedp.CSS(form+" button")))))
	peer.Must(b, err)
}

func TestSearchInABrowser(t *testing.T) {
	b := newTab(t, sample())
	for _, scripts := range []bool{true, false} {
		b.scripts(scripts)
		b.open("/")
		is(b, "document.querySelectorAll('.images > li').length", 3)
		is(b, "document.querySelectorAll('button.copy').length > 0", scripts)
		b.submit(".search", "input", "nginx-common")
		is(b, "location.search", "?q=nginx-common")
		is(b, "[...document.querySelectorAll('.images h2')].map(h => h.textContent).join()", "web")
		is(b, "document.querySelector('#q').value", "nginx-common")
		_, err := chromedp.Run(b.ctx, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.Click(chromedp.CSS(".images h2 a"))))
		peer.Must(t, err)
		is(b, "document.title.split(' · ')[0]", "web")
		b.do(chromedp.SetValue(chromedp.CSS("#a"), "5"))
		b.submit(".compare", "#b", "8")
		is(b, "location.pathname", "/-/compare/web/5/8")
		b.open("/-/images/web/8")
		b.submit(".filter", "#of", "libc")
		is(b, "document.querySelectorAll('#packages ~ div tbody tr').length", 5)
	}
	b.quiet("search")
}

func TestCopyButtons(t *testing.T) {
	b := newTab(t, sample())
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(b.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted,
		})
		peer.Must(t, err)
	}
	address, err := url.Parse(b.at)
	peer.Must(t, err)
	elsewhere := "http://" + foreign + ":" + address.Port()
	clipboard := chromedp.Evaluate[string]("navigator.clipboard.readText()", chromedp.EvalAwaitPromise)
	for base, secure := range map[string]bool{b.at: true, elsewhere: false} {
		b.do(chromedp.Navigate(base + "/-/images/web"))
		is(b, "isSecureContext", secure)
		is(b, "document.querySelectorAll('button.copy').length == document.querySelectorAll('figure.command').length", true)
		b.do(chromedp.Click(chromedp.CSS("section[aria-labelledby=herdbook] button.copy")))
		_, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("document.querySelector('section[aria-labelledby=herdbook] button.copy').textContent != 'Copy'"))
		peer.Must(t, err)
		is(b, "document.querySelector('#said').textContent", "Download: copied")
		b.open("/") // where the clipboard can be read
		got, err := chromedp.Run(b.ctx, clipboard)
		if want := "herdbook pull web --arch x86_64 \\\n  --source " + base + "/index.asc"; err != nil || !strings.HasPrefix(got, want) || strings.HasSuffix(got, "\n") {
			t.Errorf("the clipboard has %q: %v", got, err)
		}
	}
	b.quiet("copying")
}

// variants are how the pages are looked at.
var variants = []struct {
	name   string
	width  int64
	scheme string
	media  string
}{{"phone", 360, "light", ""}, {"desk", 1200, "dark", ""}, {"print", 700, "dark", "print"}}

// overflow is a script: what stands out of the page to the right, but for what can
// be scrolled within.
const overflow = `(() => {
	const width = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth > width || innerWidth > width) return "the page: " + document.documentElement.scrollWidth;
	for (const e of document.body.querySelectorAll("*")) {
		if (e.closest(".wide > *, pre > *, .skip, .unseen, svg *")) continue;
		if (e.getBoundingClientRect().right > width + 0.5) return e.outerHTML.slice(0, 200);
	}
	return "";
})()`

func TestPagesFitEverywhere(t *testing.T) {
	b := newTab(t, sample())
	cruelPath := func(below string) string { return below + url.PathEscape(hostile) }
	long := strings.Repeat("very-long-", 30)
	hard := newTab(t, cruel())
	for _, c := range []struct {
		*tab
		targets []string
	}{{b, pages}, {hard, []string{"/", "/?q=very-long", cruelPath("/-/images/"), cruelPath("/-/images/") + "/2", cruelPath("/-/compare/") + "/1/2", "/-/images/" + long, "/-/images/" + long + "x"}}} {
		for i, target := range c.targets {
			for _, v := range variants {
				c.emulate(v.width, v.scheme, v.media)
				c.open(target)
				is(c.tab, "innerWidth", int(v.width))
				is(c.tab, "document.querySelectorAll('h1').length", 1)
				is(c.tab, "document.querySelectorAll('details').forEach(d => d.open = true)", any(nil))
				if out, err := chromedp.Run(c.ctx, chromedp.Evaluate[string](overflow)); err != nil || out != "" {
					t.Errorf("%s, %s: stands out: %s (%v)", target, v.name, out, err)
				}
				if *screenshots != "" {
					c.picture(fmt.Sprintf("%d-%d-%s.png", len(c.targets), i, v.name))
				}
			}
			var expected []string
			if target == "/nothing" || strings.HasSuffix(target, "x") {
				expected = append(expected, "404")
			}
			c.quiet(target, expected...)
		}
	}
}

func (b *tab) picture(name string) {
	b.Helper()
	data, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	peer.Must(b, err)
	peer.Must(b, os.WriteFile(filepath.Join(*screenshots, name), data, 0o644))
}

func TestTheSchemeFollowsTheReader(t *testing.T) {
	b := newTab(t, sample())
	const colours = "(s => s.backgroundColor + ' ' + s.color)(getComputedStyle(document.body))"
	for scheme, want := range map[string]string{"light": "rgb(253, 252, 250) rgb(29, 31, 33)", "dark": "rgb(20, 22, 23) rgb(230, 228, 223)"} {
		b.emulate(800, scheme, "")
		b.open("/-/images/web/8")
		is(b, colours, want)
		is(b, "getComputedStyle(document.querySelector('.pedigree .step')).fill", want[strings.Index(want, ") ")+2:])
	}
	b.emulate(800, "dark", "print")
	is(b, colours, "rgb(255, 255, 255) rgb(0, 0, 0)")
	is(b, "getComputedStyle(document.querySelector('.search')).display + getComputedStyle(document.querySelector('button.copy')).display", "nonenone")
	b.quiet("schemes")
}

func TestTheKeyboardIsEnough(t *testing.T) {
	b := newTab(t, sample())
	b.emulate(800, "light", "")
	b.open("/-/images/web")
	b.do(chromedp.KeyEvent(kb.Tab))
	is(b, "document.activeElement.className + (document.activeElement.getBoundingClientRect().left >= 0)", "skiptrue")
	b.do(chromedp.KeyEvent(kb.Enter))
	is(b, "location.hash", "#content")
	b.do(chromedp.KeyEvent(kb.Tab))
	is(b, "document.querySelector('main').contains(document.activeElement)", true)
	is(b, "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth", "solid3px")
	b.quiet("the keyboard")
}

// named are the roles of what must have a name for those who do not see it.
var named = []string{"button", "link", "searchbox", "textbox", "combobox", "image", "img", "region", "search", "navigation", "DisclosureTriangle"}

func TestEverythingHasAName(t *testing.T) {
	b := newTab(t, sample())
	text := func(v *accessibility.Value) (s string) {
		if v != nil {
			peer.Must(t, json.Unmarshal(v.Value, &s))
		}
		return s
	}
	seen := map[string]int{}
	for _, target := range pages {
		b.open(target)
		tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		peer.Must(t, err)
		for _, n := range tree.Nodes {
			role := text(n.Role)
			seen[role]++
			if !n.Ignored && slices.Contains(named, role) && text(n.Name) == "" {
				t.Errorf("%s: a %s has no name", target, role)
			}
		}
	}
	for _, role := range []string{"button", "link", "searchbox", "combobox", "image", "region", "navigation", "main", "banner", "contentinfo", "table", "columnheader", "rowheader", "heading"} {
		if seen[role] == 0 {
			t.Errorf("no page has a %s; there are %v", role, seen)
		}
	}
	b.open("/-/images/web/8")
	is(b, "document.querySelector('svg.pedigree').getAttribute('role') + document.querySelectorAll('svg.pedigree > title, svg.pedigree > desc').length", "img2")
	is(b, "document.querySelectorAll('svg.pedigree circle').length == document.querySelectorAll('.layers tbody tr').length", true)
}
