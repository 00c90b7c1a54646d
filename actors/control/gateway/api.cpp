// The gateway's API: who is let in, and what all handlers share.
#include "actors/control/gateway/api.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "actors/control/gateway/api_snapshot.h"
#include "actors/control/gateway/json.h"
#include "actors/control/gateway/openapi.h"
#include "protocol/format.h"

namespace crabcast::gateway {
namespace {

constexpr std::string_view kBearer = "bearer ";

bool is_safe(const std::string& method) {
  return method == "GET" || method == "HEAD";
}

// "localhost:8080" -> "localhost"; "[::1]:8080" -> "[::1]"
std::string host_of(const std::string& authority) {
  if (authority.starts_with('[')) return authority.substr(0, authority.find(']') + 1);
  return authority.substr(0, authority.find(':'));
}

bool is_loopback_name(const std::string& host) {
  if (host == "localhost" || host == "[::1]") return true;
  return host.starts_with("127.") && std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return std::isdigit(c) || c == '.';
         });
}

std::string bearer_of(const Request& request) {
  const std::string header = request.header("authorization");
  if (header.size() <= kBearer.size()) return "";
  for (std::size_t i = 0; i < kBearer.size(); ++i)
    if (std::tolower(static_cast<unsigned char>(header[i])) != kBearer[i]) return "";
  return header.substr(kBearer.size());
}

Response too_often(double seconds) {
  Response response = error_response(429, "rate_limited", "too many requests; slow down");
  response.headers.emplace_back("Retry-After",
                                std::to_string(static_cast<int>(std::ceil(seconds))));
  return response;
}

}  // namespace

int status_of(Errc code) {
  switch (code) {
    case Errc::ok:
      return 200;
    case Errc::invalid_argument:
    case Errc::invalid_spec:
    case Errc::data_error:
      return 400;
    case Errc::unauthenticated:
      return 401;
    case Errc::permission_denied:
      return 403;
    case Errc::not_found:
      return 404;
    case Errc::already_exists:
    case Errc::stale_generation:
      return 409;
    case Errc::unsupported:
      return 501;
    case Errc::unavailable:
    case Errc::queue_full:
    case Errc::disk_full:
    case Errc::resource_exhausted:
    case Errc::protocol_mismatch:
      return 503;
    case Errc::timeout:
      return 504;
    default:
      return 500;
  }
}

Response error_response(int status, std::string_view code, const std::string& message) {
  Response response;
  response.status = status;
  response.body = dump({{"error", {{"code", code}, {"message", message}}}});
  if (status == 401)
    response.headers.emplace_back("WWW-Authenticate", R"(Bearer realm="crabcast")");
  return response;
}

Response error_response(const Error& error) {
  return error_response(status_of(error.code), to_string(error.code), error.message);
}

Api::Api(ApiOptions options, std::unique_ptr<Ask> ask)
    : options_(std::move(options)),
      metrics_(options_.version),
      ask_(std::move(ask)),
      tokens_(options_.tokens, options_.loopback),
      rate_(options_.rate),
      failed_logins_(options_.failed_logins),
      feed_([this](const google::protobuf::Message& body) { return this->ask(body); },
            [this](const pb::Event& event) { metrics_.heard(event); }),
      snapshot_(std::make_unique<Snapshot>()) {}

Api::~Api() {
  stop();
}

void Api::stop() {
  feed_.stop();
}

// ---- who is let in
// ---------------------------------------------------------------------------------

// A page of another site can make a browser send requests here. It cannot read answers, but where
// no token is needed they would be carried out; and by a name that leads to 127.0.0.1 it could
// read.
std::optional<Response> Api::refuse_origin(const Request& request) {
  const std::string host = request.header("host");
  if (host.empty()) return error_response(400, "invalid_argument", "the header Host is missing");
  if (options_.loopback && !tokens_.has_file() && !is_loopback_name(host_of(host)))
    return error_response(
        421, "permission_denied",
        "this address answers to localhost and 127.0.0.1 only, not to '" + excerpt(host) + "'");
  if (is_safe(request.method)) return {};
  const std::string origin = request.header("origin"), site = request.header("sec-fetch-site");
  const bool foreign_site = !site.empty() && site != "same-origin" && site != "none";
  const bool foreign_origin =
      !origin.empty() && origin != "http://" + host && origin != "https://" + host;
  if (foreign_site || foreign_origin)
    return error_response(403, "permission_denied", "pages of other sites may change nothing here");
  return {};
}

Result<Caller> Api::identify(const Request& request) {
  return tokens_.caller(bearer_of(request));
}

Api::Admission Api::admit(const Request& request) {
  Admission admission;
  const auto refuse = [&](Response response) {
    admission.refusal = std::move(response);
    return admission;
  };
  if (auto refused = refuse_origin(request)) return refuse(std::move(*refused));
  Match found = match(request.method, request.path);
  if (!found.route) {
    if (found.methods.empty())
      return refuse(error_response(
          404, "not_found", "there is nothing at this path; /api/v1/openapi.json lists all"));
    Response response = error_response(405, "unsupported", "this path has other methods");
    response.headers.emplace_back("Allow", join_names(found.methods));
    return refuse(std::move(response));
  }
  admission.route = found.route;
  const Route& route = *found.route;
  if (route.role != Role::anyone) {
    auto caller = identify(request);
    if (!caller) {
      const double wait = failed_logins_.take(request.address, Clock::now());
      return refuse(wait > 0 ? too_often(wait) : error_response(caller.error()));
    }
    admission.caller = std::move(*caller);
  }
  const auto& key = admission.caller.name.empty() ? request.address : admission.caller.name;
  if (const double wait = rate_.take(key, Clock::now()); wait > 0) return refuse(too_often(wait));
  if (admission.caller.role < route.role)
    return refuse(error_response(403, "permission_denied",
                                 "this needs the role " + std::string(to_string(route.role)) +
                                     "; the token is one of a " +
                                     std::string(to_string(admission.caller.role))));
  auto values = read_query(request.query, route.query);
  if (!values) return refuse(error_response(values.error()));
  admission.values = std::move(*values);
  admission.values.update(found.values);
  return admission;
}

Response Api::respond(const Request& request, const Admission& admission) {
  const Route& route = *admission.route;
  Call call{request, admission.caller, admission.values};
  if (!is_safe(request.method)) {
    const std::string type = request.header("content-type");
    const bool is_json = type == "application/json" || type.starts_with("application/json;");
    if (!is_json && (!request.body.empty() || !type.empty()))
      return error_response(415, "invalid_argument",
                            "a body is JSON: send Content-Type: application/json");
    // Without it a form of another site could send the request; this one is asked about first.
    auto body = read_body(request.body, route.body);
    if (!body) return error_response(body.error());
    call.values.update(*body);
  }
  return (this->*route.handler)(call);
}

Response Api::handle(const Request& request) {
  const auto admission = admit(request);
  Response response = admission.refusal ? *admission.refusal : respond(request, admission);
  metrics_.served(admission.route ? admission.route->id : "none", response.status);
  return response;
}

// ---- what handlers share
// -----------------------------------------------------------------------------

Result<Answer> Api::ask(const google::protobuf::Message& body, Duration timeout) {
  const auto began = Clock::now();
  auto answer = ask_->ask(body, timeout);
  metrics_.asked(body.GetDescriptor()->name(), seconds(Clock::now() - began), answer.has_value());
  return answer;
}

Response Api::json_of(const Result<Answer>& answer, int status) {
  if (!answer) return error_response(answer.error());
  const pb::Envelope& envelope = **answer;
  const auto* field = envelope.GetDescriptor()->FindFieldByNumber(envelope.body_case());
  if (!field) return error_response({Errc::internal, "the controller's answer has no body"});
  Response response;
  response.status = status;
  response.body = dump(to_json(envelope.GetReflection()->GetMessage(envelope, field)));
  return response;
}

Status Api::may_act_on(const Caller& caller, const std::string& job) {
  if (caller.role == Role::admin) return {};
  pb::GetJob get;
  get.set_job(job);
  const auto answer = ask(get);
  if (!answer) return fail(answer.error());
  const auto& owner = (*answer)->job_status().owner();
  if (!owner.empty() && owner == caller.owner) return {};
  return fail(Errc::permission_denied, "job " + job + " belongs to " +
                                           (owner.empty() ? "nobody" : owner) +
                                           "; only its owner and an admin may do this");
}

Response Api::act(const Call& call, const google::protobuf::Message& body) {
  if (const Status allowed = may_act_on(call.caller, call.text("job")); !allowed)
    return error_response(allowed.error());
  return json_of(ask(body));
}

}  // namespace crabcast::gateway
