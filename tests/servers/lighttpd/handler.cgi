#!/bin/sh
# A handler: it is named after what it is, and says what it saw as CGI has it (RFC 3875 section 4.1).
ran=${0##*/}
ran=${ran%.cgi}
printf 'content-type: text/plain\r\nx-ran: %s\r\n\r\n' "$ran"
printf 'ran: %s\nmethod: %s\nhost: %s\npath: %s\ncaller: %s\ndecision: %s\n' \
    "$ran" "$REQUEST_METHOD" "$HTTP_HOST" "$REQUEST_URI" "$HTTP_X_CALLER" "$HTTP_M2M_AUTH_DECISION"
env | sed -n 's/^HTTP_\([A-Z0-9_]*\)=/header: \1: /p'
