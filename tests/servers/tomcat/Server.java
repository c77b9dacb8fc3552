// The service of the suite on Tomcat, embedded. README.md beside this folder says what every server does.
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Collections;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.catalina.Context;
import org.apache.catalina.Wrapper;
import org.apache.catalina.core.StandardHost;
import org.apache.catalina.startup.Tomcat;

public final class Server {
    private static final class Answer extends HttpServlet {
        private final String name;

        Answer(String name) {
            this.name = name;
        }

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            String ran = name.equals("items") && request.getMethod().equals("DELETE") ? "delete" : name;
            response.setContentType("text/plain");
            response.setCharacterEncoding("utf-8");
            response.setHeader("x-ran", ran);
            StringBuilder body = new StringBuilder("ran: " + ran + "\n");
            body.append("method: ").append(request.getMethod()).append('\n');
            body.append("host: ").append(request.getServerName()).append('\n');
            body.append("path: ").append(request.getRequestURI()).append('\n');
            body.append("caller: ").append(request.getHeader("x-caller")).append('\n');
            body.append("decision: ").append(request.getHeader("m2m-auth-decision")).append('\n');
            for (String header : Collections.list(request.getHeaderNames())) {
                for (String value : Collections.list(request.getHeaders(header))) {
                    body.append("header: ").append(header).append(": ").append(value).append('\n');
                }
            }
            response.getWriter().write(body.toString());
        }
    }

    private static void serve(Context context, String name, String... patterns) {
        Wrapper wrapper = Tomcat.addServlet(context, name, new Answer(name));
        for (String pattern : patterns) {
            wrapper.addMapping(pattern);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Logger.getLogger("").setLevel(Level.OFF);
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        tomcat.setPort(0);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.getConnector().setProperty("maxKeepAliveRequests", "-1");
        // Both are off by default, and on where services want such paths.
        tomcat.getConnector().setEncodedSolidusHandling("decode");
        tomcat.getConnector().setAllowBackslash(true);
        Context context = tomcat.addContext("", null);
        serve(context, "admin", "/admin", "/admin/*");
        serve(context, "items", "/items/*");
        serve(context, "health", "/health");
        serve(context, "public", "/public/*");
        StandardHost host = new StandardHost();
        host.setName("admin.example.com");
        tomcat.getEngine().addChild(host);
        serve(tomcat.addContext(host, "", null), "admin-host", "/*");
        tomcat.start();
        System.out.println(tomcat.getConnector().getLocalPort());
        System.in.transferTo(java.io.OutputStream.nullOutputStream());
        System.exit(0);
    }
}
