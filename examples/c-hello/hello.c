/* A C program in a pod: clang --target=wasm32-wasi. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **arguments) {
    char host[256] = "";
    FILE *file = fopen("/etc/hostname", "r");
    if (file == NULL) {
        fprintf(stderr, "opening /etc/hostname: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    if (fgets(host, sizeof host, file) != NULL) host[strcspn(host, "\n")] = '\0';
    fclose(file);
    printf("hello from C, host %s\n", host);
    for (int place = 0; place < count; place++) printf("argument %d: %s\n", place, arguments[place]);
    return EXIT_SUCCESS;
}
