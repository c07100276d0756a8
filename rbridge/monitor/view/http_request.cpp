#include "rbridge/monitor/view/http_request.hpp"

#include <strings.h>

#include <algorithm>

namespace setsuna::monitor {
namespace {

constexpr std::string_view kHostField = "host:";

std::string_view line_at(std::string_view text, std::size_t from) {
  std::string_view line = text.substr(from, std::min(text.find('\n', from), text.size()) - from);
  return !line.empty() && line.back() == '\r' ? line.substr(0, line.size() - 1) : line;
}

// A page in a browser of the same user reaches loopback under a name of its own: only this machine's names count.
bool names_this_machine(std::string_view host) {
  while (!host.empty() && (host.front() == ' ' || host.front() == '\t')) {
    host.remove_prefix(1);
  }
  const std::string_view name = host.substr(0, host.find(':'));
  return name == "127.0.0.1" || name == "localhost";
}

bool host_is_fine(std::string_view request) {
  for (std::size_t at = request.find('\n'); at != std::string_view::npos; at = request.find('\n', at + 1)) {
    const std::string_view line = line_at(request, at + 1);
    if (line.size() > kHostField.size() && ::strncasecmp(line.data(), kHostField.data(), kHostField.size()) == 0) {
      return names_this_machine(line.substr(kHostField.size()));
    }
  }
  return true;  // HTTP/1.0 knows no such field
}

const char* reason_of(int status) {
  switch (status) {
    case 200: return "OK";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    default: return "Bad Request";
  }
}

const char* sentence_for(int status) {
  switch (status) {
    case 403: return "Only processes of the user who runs this program are served, at 127.0.0.1 or localhost.\n";
    case 404: return "The metrics are at /metrics.\n";
    case 405: return "Only GET and HEAD are served.\n";
    default: return "This is no HTTP request.\n";
  }
}

}  // namespace

int judge_request(std::string_view request, bool* head) {
  const std::string_view line = line_at(request, 0);
  const std::size_t method_end = line.find(' ');
  const std::size_t path_end = method_end == std::string_view::npos ? method_end : line.find(' ', method_end + 1);
  if (path_end == std::string_view::npos || line.substr(path_end + 1).rfind("HTTP/1.", 0) != 0) {
    return 400;
  }
  const std::string_view method = line.substr(0, method_end);
  std::string_view path = line.substr(method_end + 1, path_end - method_end - 1);
  path = path.substr(0, path.find('?'));
  *head = method == "HEAD";
  if (!host_is_fine(request)) {
    return 403;
  }
  if (method != "GET" && method != "HEAD") {
    return 405;
  }
  return path == "/metrics" ? 200 : 404;
}

std::string make_response(int status, const std::string& body, bool head) {
  const std::string content = status == 200 ? body : sentence_for(status);
  std::string out = "HTTP/1.1 " + std::to_string(status) + " " + reason_of(status) + "\r\n";
  out += status == 200 ? "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" : "Content-Type: text/plain\r\n";
  out += status == 405 ? "Allow: GET, HEAD\r\n" : "";
  out += "Content-Length: " + std::to_string(content.size()) + "\r\nConnection: close\r\n\r\n";
  return head ? out : out + content;
}

}  // namespace setsuna::monitor
