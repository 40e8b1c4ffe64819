/* Asks the C library for the addresses of names, one line each. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        time_t began = time(NULL);
        int error = getaddrinfo(names[i], NULL, &hints, &found);
        printf("%s", names[i]);
        if (error)
            printf(" %s", error == EAI_NONAME ? "nobody" : gai_strerror(error));
        for (; found; found = found->ai_next) {
            char text[64];
            if (found->ai_family == AF_INET
                && !getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST))
                printf(" %s", text);
        }
        printf("%s\n", time(NULL) - began > 3 ? " (late)" : "");
    }
}
