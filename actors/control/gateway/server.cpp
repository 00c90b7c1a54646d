#include "actors/control/gateway/server.h"

#include <spdlog/spdlog.h>

#include <set>

#include "actors/control/gateway/stream.h"
#include "protocol/format.h"

namespace crabcast::gateway {
namespace {

// What no page of ours needs is forbidden: no scripts, styles or pictures from elsewhere or in
// line, no frames around it, no plugins.
const std::pair<const char*, const char*> kAlways[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src "
     "'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
};

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool once_only(const std::string& header) {
  return header == "host" || header == "content-length" || header == "authorization";
}

bool is_other_method(const std::string& method) {
  static const std::set<std::string> known = {"GET",     "HEAD",  "POST",    "PUT",  "DELETE",
                                              "CONNECT", "TRACE", "OPTIONS", "PATCH"};
  return !method.empty() && !known.contains(method);
}

// What the library adds to the headers that came.
bool is_added(const std::string& header) {
  return header == "remote_addr" || header == "remote_port" || header == "local_addr" ||
         header == "local_port";
}

// One request on its way through the library's callbacks.
struct Exchange {
  explicit Exchange(ConnectionStream& s) : stream(s) {}
  ConnectionStream& stream;
  Request request;
  Api::Admission admission;
  std::size_t body_bytes = 0;
  httplib::Request* raw = nullptr;
  bool close = true;  // until the request was read to its end
};
thread_local Exchange* current = nullptr;

// Empty when the request can be read; else why not.
std::optional<Response> read_head(const httplib::Request& raw, const Limits& limits,
                                  Exchange& exchange) {
  Request& request = exchange.request;
  request.method = raw.method;
  request.target = raw.target;
  request.address = raw.remote_addr;
  for (const auto& [name, value] : raw.headers) {
    const auto key = lower(name);
    if (is_added(key)) continue;
    if (!request.headers.emplace(key, value).second && once_only(key))
      return error_response(400, "invalid_argument", "the header " + key + " is given twice");
  }
  if (!split_target(request))
    return error_response(400, "invalid_argument", "the path or the query cannot be read");
  if (!request.header("transfer-encoding").empty())
    return error_response(411, "invalid_argument", "send the body with Content-Length");
  if (!request.header("content-encoding").empty())
    return error_response(415, "invalid_argument", "send the body as it is, without compression");
  if (request.headers.contains("content-length")) {
    const auto length = parse_whole(request.header("content-length"));
    if (!length)
      return error_response(400, "invalid_argument", "Content-Length is no whole number");
    if (*length > limits.body_bytes)
      return error_response(413, "invalid_argument",
                            "the body is larger than " + format_bytes(limits.body_bytes));
    exchange.body_bytes = static_cast<std::size_t>(*length);
  }
  return {};
}

void write(const Response& from, Exchange& exchange, httplib::Response& to) {
  if (from.close) exchange.close = true;
  if (exchange.close) exchange.raw->set_header("Connection", std::string("close"));
  to.status = from.status;
  for (const auto& [name, value] : kAlways) to.set_header(name, std::string(value));
  bool cached = false;
  for (const auto& [name, value] : from.headers) {
    to.set_header(name, value);
    cached = cached || name == "Cache-Control";
  }
  if (!cached) to.set_header("Cache-Control", std::string("no-store"));
  if (!from.stream) {
    to.set_content(from.body, from.type);
    return;
  }
  to.set_chunked_content_provider(from.type, [stream = from.stream, &connection = exchange.stream](
                                                 std::size_t, httplib::DataSink& sink) {
    if (connection.peer_is_gone()) return false;
    const bool more =
        stream([&](std::string_view text) { return sink.write(text.data(), text.size()); });
    if (!more) sink.done();
    return true;
  });
}

std::string raw_error(const char* status, const char* message) {
  const std::string body =
      R"({"error":{"code":"invalid_argument","message":")" + std::string(message) + "\"}}";
  return "HTTP/1.1 " + std::string(status) +
         "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace

class Gateway::Http final : public httplib::Server {
 public:
  Http(Api& api, Listener& listener);
  void serve(int fd, const std::string& address);
  void shut_down() { svr_sock_ = INVALID_SOCKET; }

 private:
  void begin(httplib::Request& raw, Exchange& exchange);
  bool go(ConnectionStream& stream, bool last);
  void respond(httplib::Response& response);

  Api& api_;
  const Limits limits_;
};

Gateway::Http::Http(Api& api, Listener& listener) : api_(api) {
  svr_sock_ = listener.fd();  // that it does not shut down
  using std::chrono::duration_cast;
  set_keep_alive_timeout(duration_cast<std::chrono::seconds>(limits_.idle).count());
  set_keep_alive_max_count(limits_.requests);
  set_read_timeout(limits_.request);
  set_write_timeout(limits_.write);
  set_payload_max_length(limits_.body_bytes);
  set_expect_100_continue_handler([this](const httplib::Request&, httplib::Response& response) {
    if (!current->admission.refusal) return 100;
    respond(response);
    return response.status;
  });
  set_pre_routing_handler([this](const httplib::Request&, httplib::Response& response) {
    respond(response);
    return HandlerResponse::Handled;
  });
  // For what the library refuses itself. It knows no other methods than its own.
  set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty() || response.has_header("Content-Security-Policy")) return;
    const bool other_method =
        response.status == 400 && !request.version.empty() && is_other_method(request.method);
    if (other_method) {
      response.status = 405;
      response.set_header("Allow", std::string("GET, POST, PUT"));
    }
    response.set_content(
        error_response(response.status, other_method ? "unsupported" : "invalid_argument",
                       "this is no HTTP request that can be carried out")
            .body,
        "application/json");
  });
  set_exception_handler([](const httplib::Request& request, httplib::Response& response,
                           std::exception_ptr thrown) {
    std::string what = "unknown";
    try {
      std::rethrow_exception(std::move(thrown));
    } catch (const std::exception& error) {
      what = error.what();
    } catch (...) {
      what = "no exception of the standard library";
    }
    spdlog::error("gateway: {} {}: {}", request.method, excerpt(request.path, 200), what);
    write(error_response({Errc::internal, "something is broken here; see the controller's log"}),
          *current, response);
  });
}

// The head was read: who asks, and whether they may. Before the body, which may be large.
void Gateway::Http::begin(httplib::Request& raw, Exchange& exchange) {
  exchange.stream.head_is_read();
  exchange.raw = &raw;
  raw.ranges.clear();  // a part of a page, or the same part a thousand times, is of no use
  // Brotli at the library's setting costs more time than it saves.
  const bool gzip = raw.get_header_value("Accept-Encoding").find("gzip") != std::string::npos;
  raw.headers.erase("Accept-Encoding");
  if (gzip) raw.set_header("Accept-Encoding", std::string("gzip"));
  if (auto refusal = read_head(raw, limits_, exchange)) {
    exchange.admission.refusal = std::move(refusal);
    return;
  }
  exchange.admission = api_.admit(exchange.request);
  if (!exchange.admission.refusal && exchange.body_bytes > 0 &&
      (raw.method == "GET" || raw.method == "HEAD"))
    exchange.admission.refusal =
        error_response(400, "invalid_argument", raw.method + " takes no body");
}

void Gateway::Http::respond(httplib::Response& response) {
  Exchange& exchange = *current;
  auto& admission = exchange.admission;
  const std::string route = admission.route ? admission.route->id : "none";
  if (admission.refusal) {
    exchange.close = exchange.body_bytes > 0 || admission.refusal->status == 400 ||
                     admission.refusal->status == 411 || admission.refusal->status == 413 ||
                     admission.refusal->status == 415;
    api_.metrics().served(route, admission.refusal->status);
    return write(*admission.refusal, exchange, response);
  }
  if (exchange.body_bytes > 0 &&
      !exchange.stream.read_body(exchange.request.body, exchange.body_bytes))
    return;  // the stream's trouble says why, and the connection ends
  exchange.close = false;
  const Response answer = api_.respond(exchange.request, admission);
  api_.metrics().served(route, answer.status);
  write(answer, exchange, response);
}

// One request. False when the connection is to be closed.
bool Gateway::Http::go(ConnectionStream& stream, bool last) {
  Exchange exchange(stream);
  current = &exchange;
  bool closed = false;
  const bool fine = process_request(
      stream, last, closed, [this, &exchange](httplib::Request& raw) { begin(raw, exchange); });
  current = nullptr;
  return fine && !closed && !last && !exchange.close;
}

void Gateway::Http::serve(int fd, const std::string& address) {
  using Trouble = ConnectionStream::Trouble;
  ConnectionStream stream(fd, address, limits_);
  for (std::size_t n = 1; stream.wait_for_request(); ++n)
    if (!go(stream, n >= limits_.requests)) break;
  if (stream.trouble() == Trouble::head_too_large)
    stream.write_raw(raw_error("431 Request Header Fields Too Large", "the headers are too large"));
  else if (stream.trouble() == Trouble::too_slow && stream.in_request())
    stream.write_raw(raw_error("408 Request Timeout", "the request came too slowly"));
  if (stream.trouble() != Trouble::gone) stream.linger();
}

// ---- start and end
// -----------------------------------------------------------------------------------

Result<std::unique_ptr<Gateway>> Gateway::start(GatewayOptions options, std::unique_ptr<Ask> ask) {
  const auto endpoint = parse_endpoint(options.bind);
  if (!endpoint) return fail(endpoint.error().within("--http"));
  std::unique_ptr<Gateway> gateway(new Gateway);
  const auto tokens = read_tokens(options.tokens);
  gateway->needs_tokens_ = tokens || tokens.error().code != Errc::not_found;
  if (!tokens && gateway->needs_tokens_) return fail(tokens.error());
  if (!endpoint->loopback && !gateway->needs_tokens_)
    return fail(Errc::permission_denied,
                "--http " + options.bind +
                    " can be reached by others, and there are no tokens: everybody would be "
                    "admin. Make one first (crabcast token add NAME --role admin --owner NAME), "
                    "or listen at 127.0.0.1");
  ApiOptions api = options.api;
  api.loopback = endpoint->loopback;
  api.tokens = options.tokens;
  api.is_ready = options.is_ready;
  api.version = options.version;
  auto listener = Listener::open(*endpoint, options.connections);
  if (!listener) return fail(listener.error());
  gateway->listener_ = std::move(*listener);
  gateway->api_ = std::make_unique<Api>(std::move(api), std::move(ask));
  gateway->http_ = std::make_unique<Http>(*gateway->api_, *gateway->listener_);
  gateway->listener_->start(
      [g = gateway.get()](int fd, const std::string& address) {
        g->api_->metrics().set_connections(g->listener_->open_connections());
        g->http_->serve(fd, address);
        g->api_->metrics().set_connections(g->listener_->open_connections());
      },
      [g = gateway.get()](const std::string& reason) {
        g->api_->metrics().refused_connection(reason);
      });
  return gateway;
}

Gateway::~Gateway() {
  stop();
}

const std::string& Gateway::address() const {
  return listener_->address();
}

void Gateway::stop() {
  if (!http_) return;
  api_->stop();
  http_->shut_down();
  listener_->stop();
}

}  // namespace crabcast::gateway
