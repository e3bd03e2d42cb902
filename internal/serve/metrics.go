package serve

import (
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the figures of one server.
type metrics struct {
	handler     http.Handler
	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	sent        prometheus.Counter
	uploaded    prometheus.Counter
	connections prometheus.Gauge
	read        figures // of what was read with GET: nearly all
}

// figures are those of one method and one status.
type figures struct {
	requests  prometheus.Counter
	durations prometheus.Observer
}

func (m *metrics) of(method string, status int) figures {
	return figures{m.requests.WithLabelValues(method, strconv.Itoa(status)), m.durations.WithLabelValues(method)}
}

func newMetrics(dir string) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herdbook_requests_total", Help: "Requests that were answered.",
		}, []string{"method", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "herdbook_request_seconds", Help: "Time from a request to the end of its answer.",
			Buckets: []float64{0.001, 0.01, 0.1, 1, 10, 60, 600},
		}, []string{"method"}),
		sent:        prometheus.NewCounter(prometheus.CounterOpts{Name: "herdbook_sent_bytes_total", Help: "Bytes of bodies that were sent."}),
		uploaded:    prometheus.NewCounter(prometheus.CounterOpts{Name: "herdbook_uploaded_bytes_total", Help: "Bytes of bodies that were uploaded."}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "herdbook_connections", Help: "Connections that are open."}),
	}
	m.read = m.of(http.MethodGet, http.StatusOK)
	index := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herdbook_index_timestamp_seconds", Help: "When the index was written; 0 if there is none.",
	}, func() float64 {
		id, err := identify(filepath.Join(dir, "index"))
		if err != nil {
			return 0
		}
		return float64(id.modified.Nano()) / 1e9
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests, m.durations, m.sent, m.uploaded, m.connections, index,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return m
}

// note counts a request. Methods that are not served count as one: their names are
// the clients' own.
func (m *metrics) note(method string, status int, sent int64, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
	default:
		method = "other"
	}
	f := m.read
	if method != http.MethodGet || status != http.StatusOK {
		f = m.of(method, status)
	}
	f.requests.Inc()
	f.durations.Observe(took.Seconds())
	m.sent.Add(float64(sent))
}
