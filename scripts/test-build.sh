#!/usr/bin/env bash
# Compiles the product and its tests into .test-build, where they run as plain files.
set -euo pipefail
cd "$(dirname "$0")/.."
npm run --silent build
rm -rf .test-build
npx tsc -p tsconfig.test.json
cp package.json .test-build/
cp test/support/*.mjs .test-build/test/support/
mkdir -p .test-build/src/dashboard && cp dist/dashboard/* .test-build/src/dashboard/
