/* Looks up each argument with the C library's getaddrinfo and prints its IPv4 addresses. Built against musl, whose
 * resolver asks every server at once from one socket and checks who answers. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints, *found;
        memset(&hints, 0, sizeof hints);
        hints.ai_family = AF_UNSPEC;
        hints.ai_socktype = SOCK_STREAM;
        int error = getaddrinfo(argv[i], 0, &hints, &found);
        if (error) {
            printf("%s error: %s\n", argv[i], gai_strerror(error));
            return 1;
        }
        for (struct addrinfo *a = found; a; a = a->ai_next) {
            char text[INET6_ADDRSTRLEN];
            if (a->ai_family != AF_INET)
                continue;
            inet_ntop(AF_INET, &((struct sockaddr_in *)a->ai_addr)->sin_addr, text, sizeof text);
            printf("%s %s\n", argv[i], text);
        }
        freeaddrinfo(found);
    }
    return 0;
}
