/// <reference types="vitest/config" />
// Builds the single-page app into `dist/`, which the server embeds.
//
// The page runs under `default-src 'self'`, so nothing may be inlined as a data: URL.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// Where `npm run dev` finds a running server.
const server = 'http://127.0.0.1:9420';

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    cssTarget: 'chrome123',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 300,
  },
  server: {
    host: '127.0.0.1',
    proxy: Object.fromEntries(['/select', '/api', '/insert'].map((path) => [path, server])),
  },
  test: { include: ['test/**/*.test.ts'], environment: 'node' },
});
