// What the endpoint for Prometheus answers to a request. Knows no sockets.
#pragma once

#include <string>
#include <string_view>

namespace setsuna::monitor {

inline constexpr std::size_t kRequestBytesMax = 8192;

// The head of a request is complete.
inline bool is_complete(std::string_view request) {
  return request.find("\r\n\r\n") != std::string_view::npos || request.find("\n\n") != std::string_view::npos;
}

// 200: it asks for the metrics; 400, 403, 404, 405: what is wrong with it. *head: the body is not wanted.
int judge_request(std::string_view request, bool* head);

// `body` empty: a sentence that says what the status means.
std::string make_response(int status, const std::string& body, bool head);

}  // namespace setsuna::monitor
