# The service in an image: Node, one bundle, the page, the API document, and SQLite as WebAssembly. Nothing that builds,
# no package manager of Node, no root. docs/container.md says how it is run, and how the base is pinned by its digest.
FROM node:24.21.0-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY . .
# Source maps are half of the bundle, and nothing here reads them.
RUN npm run build && find dist/bundle dist/dashboard -name '*.map' -delete

FROM debian:12.12-slim
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /build/package.json /build/LICENSE /app/
COPY --from=build /build/openapi /app/openapi
COPY --from=build /build/node_modules/node-sqlite3-wasm /app/node_modules/node-sqlite3-wasm
COPY --from=build /build/dist/dashboard /app/dist/dashboard
COPY --from=build /build/dist/bundle /app/dist/bundle
# A volume that is made here has this owner and mode, and so has a named one that is mounted over it.
RUN install -d -m 0700 -o 8470 -g 8470 /var/lib/vsf-safety
VOLUME /var/lib/vsf-safety
# nvidia-smi and its libraries are put in by the NVIDIA container runtime.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=utility VSF_SAFETY_STATE_DIR=/var/lib/vsf-safety
USER 8470:8470
EXPOSE 8470
# Alive is a process whose evaluations come, not one that answers.
HEALTHCHECK --interval=15s --timeout=5s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8470/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/dist/bundle/main.js"]
CMD ["serve"]
